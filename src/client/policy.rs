//! What the old app refuses by itself when it hears where the new one is. The relay may have refused already; it is
//! not trusted to.

use crate::protocol::network::{Country, Network, Verdict};

/// Which verdicts end the transfer. The default refuses none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerdictPolicy {
    /// Refuse phones whose networks differ.
    pub refuse_different_network: bool,
    /// Refuse phones whose countries differ.
    pub refuse_different_country: bool,
    /// With one of the above: refuse also where the relay cannot tell.
    pub refuse_unknown: bool,
}

impl VerdictPolicy {
    /// Whether this verdict ends the transfer.
    #[must_use]
    pub fn refuses(self, verdict: Verdict) -> bool {
        let network = match verdict.network {
            Network::SameAddress | Network::SameNetwork => false,
            Network::Different => true,
            Network::Unknown => self.refuse_unknown,
        };
        let country = match verdict.country {
            Country::Same => false,
            Country::Different => true,
            Country::Unknown => self.refuse_unknown,
        };
        (self.refuse_different_network && network) || (self.refuse_different_country && country)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Verdict = Verdict { network: Network::SameAddress, country: Country::Same };
    const ABROAD: Verdict = Verdict { network: Network::Different, country: Country::Different };
    const NOBODY_KNOWS: Verdict = Verdict { network: Network::Unknown, country: Country::Unknown };

    #[test]
    fn nothing_is_refused_by_default() {
        assert!(![HOME, ABROAD, NOBODY_KNOWS].iter().any(|verdict| VerdictPolicy::default().refuses(*verdict)));
    }

    #[test]
    fn different_networks_or_countries_are_refused_on_demand() {
        let network = VerdictPolicy { refuse_different_network: true, ..VerdictPolicy::default() };
        let country = VerdictPolicy { refuse_different_country: true, ..VerdictPolicy::default() };
        for policy in [network, country] {
            assert!(policy.refuses(ABROAD) && !policy.refuses(HOME) && !policy.refuses(NOBODY_KNOWS));
            assert!(VerdictPolicy { refuse_unknown: true, ..policy }.refuses(NOBODY_KNOWS));
        }
        assert!(!country.refuses(Verdict { network: Network::Different, ..HOME }));
    }

    #[test]
    fn not_knowing_is_no_reason_by_itself() {
        let policy = VerdictPolicy { refuse_unknown: true, ..VerdictPolicy::default() };
        assert!(!policy.refuses(NOBODY_KNOWS));
    }
}
