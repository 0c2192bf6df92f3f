//! The scenarios that are part of the program, word for word the files in `scenarios/`.

/// Name and text of each, the quickest first.
pub(crate) const BUILT_IN: [(&str, &str); 8] = [
    ("smoke", include_str!("../../scenarios/smoke.toml")),
    ("burst", include_str!("../../scenarios/burst.toml")),
    ("reconnect-storm", include_str!("../../scenarios/reconnect-storm.toml")),
    ("abuse", include_str!("../../scenarios/abuse.toml")),
    ("slow-phones", include_str!("../../scenarios/slow-phones.toml")),
    ("lurkers", include_str!("../../scenarios/lurkers.toml")),
    ("campaign", include_str!("../../scenarios/campaign.toml")),
    ("soak", include_str!("../../scenarios/soak.toml")),
];
