//! Generating RSA keys.

use crate::codes;
use crate::error::{Failure, Result};
use kvgossip_grants::{SigningKey, SigningKeyError};
use rand::{Rng, SeedableRng};

/// Generates an RSA key of `bits` bits; also returns its private key as PEM. The system seeds the random generator
/// once, so that a lack of randomness can fail at one place only.
pub(crate) fn generate(bits: usize) -> Result<(SigningKey, String)> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::new(codes::INTERNAL, format!("the system gives no randomness: {error}")))?;
    let mut generator = rand::rngs::StdRng::from_seed(seed);
    SigningKey::generate(bits, &mut |buffer| generator.fill_bytes(buffer)).map_err(|error| match error {
        SigningKeyError::Bits(_) => Failure::new(codes::RSA_UNSUPPORTED, error.to_string()),
        _ => Failure::new(codes::INTERNAL, error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::Signer;

    #[test]
    fn two_keys_differ() {
        let (one, pem) = generate(2048).unwrap();
        let (two, _) = generate(2048).unwrap();
        assert_ne!(one.public().entity(), two.public().entity());
        assert_eq!(SigningKey::from_pem(&pem).unwrap().public(), one.public());
    }
}
