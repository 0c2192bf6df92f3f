//! HPKE (RFC 9180, mode PSK) in the two instantiations of the protocol. Nothing outside this file knows which KEM
//! runs, or the size of a key or an encapsulation.

use hpke::aead::{AeadCtxR, AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::{DhP256HkdfSha256, MlKem768P256};
use hpke::{Deserializable, HpkeError, Kem, OpModeR, OpModeS, PskBundle, Serializable};
use hpke::{setup_receiver, setup_sender_with_rng};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::ChannelError;
use crate::protocol::ids::PublishedKey;
use crate::protocol::qr::Suite;

/// One of two, by suite. Boxed, so that moving a state does not leave copies of its keys behind.
enum PerSuite<A, B> {
    P256(Box<A>),
    MlKem768P256(Box<B>),
}

/// Evaluates `$body` for whichever suite it is.
macro_rules! either {
    ($value:expr, $name:ident => $body:expr) => {
        match $value {
            PerSuite::P256($name) => $body,
            PerSuite::MlKem768P256($name) => $body,
        }
    };
}

type PrivateKey<K> = <K as Kem>::PrivateKey;
type Receiving<K> = AeadCtxR<AesGcm256, HkdfSha256, K>;
type Sending<K> = AeadCtxS<AesGcm256, HkdfSha256, K>;

/// A pre-shared key. HPKE's security rests on its entropy, so exactly 32 bytes and no other number.
pub(super) struct Psk(Zeroizing<[u8; 32]>);

impl Psk {
    pub(super) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    #[cfg(test)]
    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What both sides put into HPKE's key schedule besides the keys.
pub(super) struct Setup {
    pub(super) info: Vec<u8>,
    pub(super) psk: Psk,
    pub(super) psk_id: Vec<u8>,
}

impl Setup {
    /// Fails only for an empty id, which no caller has.
    fn bundle(&self) -> Option<PskBundle<'_>> {
        PskBundle::new(self.psk.0.as_slice(), &self.psk_id).ok()
    }
}

/// The old app's private key, good for one encapsulation.
pub(super) struct SecretKey(PerSuite<PrivateKey<DhP256HkdfSha256>, PrivateKey<MlKem768P256>>);

impl SecretKey {
    /// Makes a key pair.
    pub(super) fn generate(suite: Suite, rng: &mut impl CryptoRng) -> Result<(Self, PublishedKey), ChannelError> {
        let (secret, public) = match suite {
            Suite::P256 => {
                let (secret, public) = DhP256HkdfSha256::gen_keypair_with_rng(rng);
                (PerSuite::P256(Box::new(secret)), public.to_bytes().to_vec())
            }
            Suite::MlKem768P256 => {
                let (secret, public) = MlKem768P256::gen_keypair_with_rng(rng);
                (PerSuite::MlKem768P256(Box::new(secret)), public.to_bytes().to_vec())
            }
        };
        Ok((Self(secret), PublishedKey::new(public).ok_or(ChannelError::BadKey)?))
    }

    /// Takes the encapsulated key in. Consumes the private and the pre-shared key: neither outlives this call.
    #[expect(clippy::needless_pass_by_value, reason = "the pre-shared key must not outlive the call")]
    pub(super) fn receive(self, enc: &[u8], setup: Setup) -> Result<OpeningContext, ChannelError> {
        let context = match self.0 {
            PerSuite::P256(secret) => PerSuite::P256(receive::<DhP256HkdfSha256>(&secret, enc, &setup)?),
            PerSuite::MlKem768P256(secret) => PerSuite::MlKem768P256(receive::<MlKem768P256>(&secret, enc, &setup)?),
        };
        Ok(OpeningContext(context))
    }
}

fn receive<K: Kem>(secret: &K::PrivateKey, enc: &[u8], setup: &Setup) -> Result<Box<Receiving<K>>, ChannelError> {
    let mode = OpModeR::Psk(setup.bundle().ok_or(ChannelError::DoesNotOpen)?);
    let enc = K::EncappedKey::from_bytes(enc).map_err(|_| ChannelError::DoesNotOpen)?;
    setup_receiver(&mode, secret, &enc, &setup.info).map(Box::new).map_err(|_| ChannelError::DoesNotOpen)
}

/// Encapsulates to a public key; returns the encapsulated key and new's context.
#[expect(clippy::needless_pass_by_value, reason = "the pre-shared key must not outlive the call")]
pub(super) fn send(
    suite: Suite,
    public: &PublishedKey,
    setup: Setup,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, SealingContext), ChannelError> {
    let (enc, context) = match suite {
        Suite::P256 => {
            let (enc, context) = send_with::<DhP256HkdfSha256>(public, &setup, rng)?;
            (enc, PerSuite::P256(context))
        }
        Suite::MlKem768P256 => {
            let (enc, context) = send_with::<MlKem768P256>(public, &setup, rng)?;
            (enc, PerSuite::MlKem768P256(context))
        }
    };
    Ok((enc, SealingContext(context)))
}

fn send_with<K: Kem>(
    public: &PublishedKey,
    setup: &Setup,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Box<Sending<K>>), ChannelError> {
    let mode = OpModeS::Psk(setup.bundle().ok_or(ChannelError::DoesNotSeal)?);
    let public = K::PublicKey::from_bytes(public.as_bytes()).map_err(|_| ChannelError::BadKey)?;
    let (enc, context): (_, Sending<K>) =
        setup_sender_with_rng(&mode, &public, &setup.info, rng).map_err(|_| ChannelError::DoesNotSeal)?;
    Ok((enc.to_bytes().to_vec(), Box::new(context)))
}

/// New's end of the HPKE context: seals in order.
pub(super) struct SealingContext(PerSuite<Sending<DhP256HkdfSha256>, Sending<MlKem768P256>>);

impl SealingContext {
    pub(super) fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, ChannelError> {
        either!(&mut self.0, context => context.seal(plaintext, aad)).map_err(|_| ChannelError::DoesNotSeal)
    }

    pub(super) fn export<const N: usize>(&self, label: &[u8]) -> Result<Zeroizing<[u8; N]>, ChannelError> {
        exported(|secret| either!(&self.0, context => context.export(label, secret)))
    }
}

/// Old's end of the HPKE context: opens in order, and a message that does not open does not advance it.
pub(super) struct OpeningContext(PerSuite<Receiving<DhP256HkdfSha256>, Receiving<MlKem768P256>>);

impl OpeningContext {
    pub(super) fn open(&mut self, aad: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        either!(&mut self.0, context => context.open(ciphertext, aad))
            .map(Zeroizing::new)
            .map_err(|_| ChannelError::DoesNotOpen)
    }

    pub(super) fn export<const N: usize>(&self, label: &[u8]) -> Result<Zeroizing<[u8; N]>, ChannelError> {
        exported(|secret| either!(&self.0, context => context.export(label, secret)))
    }
}

/// Fails only for secrets of 64 KiB and more, which nobody asks for.
fn exported<const N: usize>(
    export: impl FnOnce(&mut [u8]) -> Result<(), HpkeError>,
) -> Result<Zeroizing<[u8; N]>, ChannelError> {
    let mut secret = Zeroizing::new([0; N]);
    export(secret.as_mut_slice()).map_err(|_| ChannelError::DoesNotSeal)?;
    Ok(secret)
}
