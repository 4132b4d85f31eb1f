//! The public keys of a provider (RFC 7517), and signatures checked with them. Pure: bytes in, an
//! answer out.
//!
//! A key that this server cannot or may not use is passed over, as a provider may publish keys for
//! other purposes beside ours. To add an algorithm: a variant of [`Algorithm`] and its arms.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// How a token may be signed. There is no symmetric one, and no "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// RSA with PKCS #1 v1.5 and SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with PSS and SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
}

impl Algorithm {
    /// The algorithm of a name, in the spelling of tokens.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "PS256" => Some(Algorithm::Ps256),
            _ => None,
        }
    }
}

/// Why a document is not a set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeysError {
    /// It is something else.
    #[error("the answer is not a set of keys")]
    NotKeys,
    /// None of its keys can check a token.
    #[error(
        "none of the keys can be used: there must be one of RSA with 2048 to 8192 bits or of EC on \
         P-256, for signatures"
    )]
    NoneUsable,
}

/// What a signature turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// Made with one of the keys.
    Good,
    /// The token names a key that is not here, or it cannot be told which it means.
    UnknownKey,
    /// The named key did not make it.
    Bad,
}

/// The most keys of a document that are looked at.
const MOST_KEYS: usize = 256;

/// Sizes of an RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The keys that can check tokens.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Of the document: another document is another set.
    pub(super) print: blake3::Hash,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The only one that the key may be used with; none when its kind decides.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a document.
    ///
    /// # Errors
    /// It is not a set of keys, or has none that can be used.
    pub(super) fn read(document: &[u8]) -> Result<Self, KeysError> {
        let written: Document = serde_json::from_slice(document).map_err(|_| KeysError::NotKeys)?;
        let readable = written.keys.into_iter().take(MOST_KEYS);
        let keys: Vec<Key> = readable
            .filter_map(|key| Key::of(serde_json::from_value(key).ok()?))
            .collect();
        if keys.is_empty() {
            return Err(KeysError::NoneUsable);
        }
        Ok(Self {
            keys,
            print: blake3::hash(document),
        })
    }

    /// Checks a signature. Without a key's name it is taken only when there is no choice.
    pub(super) fn check(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Checked {
        let fitting = self.keys.iter().filter(|key| key.fits(algorithm));
        match id {
            Some(id) => {
                let mut answer = Checked::UnknownKey;
                for key in fitting.filter(|key| key.id.as_deref() == Some(id)) {
                    if key.made(algorithm, message, signature) {
                        return Checked::Good;
                    }
                    answer = Checked::Bad;
                }
                answer
            }
            None => {
                let mut fitting = fitting;
                match (fitting.next(), fitting.next()) {
                    (Some(key), None) if key.made(algorithm, message, signature) => Checked::Good,
                    // It may be that the only key was changed.
                    _ => Checked::UnknownKey,
                }
            }
        }
    }
}

impl Key {
    fn of(written: Written) -> Option<Self> {
        let Written {
            kty,
            kid,
            alg,
            purpose,
            key_ops,
            n,
            e,
            crv,
            x,
            y,
        } = written;
        let signs = purpose.is_none_or(|purpose| purpose == "sig")
            && key_ops.is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !signs {
            return None;
        }
        let algorithm = match alg {
            None => None,
            Some(name) => Some(Algorithm::named(&name)?),
        };
        let material = match kty.as_str() {
            "RSA" => {
                let (n, e) = (number(&n?)?, number(&e?)?);
                let first = n.first()?;
                let bits = n.len() * 8 - usize::try_from(first.leading_zeros()).ok()?;
                if !RSA_BITS.contains(&bits) || e.is_empty() {
                    return None;
                }
                Material::Rsa { n, e }
            }
            "EC" if crv.as_deref() == Some("P-256") => {
                let (x, y) = (decode(&x?)?, decode(&y?)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Material::P256([&[4], x.as_slice(), y.as_slice()].concat())
            }
            _ => return None,
        };
        let key = Self {
            id: kid,
            algorithm,
            material,
        };
        let used = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Ps256];
        used.into_iter().any(|one| key.fits(one)).then_some(key)
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match (&self.material, algorithm) {
            (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
            | (Material::P256(_), Algorithm::Es256) => true,
            (Material::Rsa { .. }, Algorithm::Es256)
            | (Material::P256(_), Algorithm::Rs256 | Algorithm::Ps256) => false,
        };
        kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    fn made(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => {
                let way = match algorithm {
                    Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    Algorithm::Es256 => return false,
                };
                let key = RsaPublicKeyComponents { n, e };
                key.verify(way, message, signature).is_ok()
            }
            Material::P256(point) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                algorithm == Algorithm::Es256 && key.verify(message, signature).is_ok()
            }
        }
    }
}

/// Bytes in the alphabet of tokens, without padding.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A number of any length, without zeros in front.
fn number(text: &str) -> Option<Vec<u8>> {
    let mut bytes = decode(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rsa(bytes: usize, changes: &Value) -> Value {
        let n = URL_SAFE_NO_PAD.encode(vec![0xC3; bytes]);
        let mut key = json!({"kty": "RSA", "kid": "one", "n": n, "e": "AQAB"});
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn read(keys: &[Value]) -> Result<KeySet, KeysError> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn keys_that_may_not_check_tokens_are_passed_over() {
        let short = URL_SAFE_NO_PAD.encode([1; 31]);
        let cases = [
            ("plain", rsa(256, &json!({})), true),
            ("zeros in front", rsa(256, &json!({"e": "AAEAAQ"})), true),
            ("for signatures", rsa(256, &json!({"use": "sig"})), true),
            ("of PSS", rsa(256, &json!({"alg": "PS256"})), true),
            ("verifies", rsa(256, &json!({"key_ops": ["verify"]})), true),
            ("encrypts", rsa(256, &json!({"use": "enc"})), false),
            ("signs only", rsa(256, &json!({"key_ops": ["sign"]})), false),
            ("1024 bits", rsa(128, &json!({})), false),
            ("2040 bits", rsa(255, &json!({})), false),
            ("too large", rsa(1025, &json!({})), false),
            ("longer digest", rsa(256, &json!({"alg": "RS512"})), false),
            (
                "symmetric",
                json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
                false,
            ),
            (
                "RSA said to be EC",
                rsa(256, &json!({"alg": "ES256"})),
                false,
            ),
            ("without e", rsa(256, &json!({"e": ""})), false),
            ("not base64", rsa(256, &json!({"n": "***"})), false),
            (
                "short point",
                json!({"kty": "EC", "crv": "P-256", "x": short, "y": short}),
                false,
            ),
            (
                "other curve",
                json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
                false,
            ),
            ("a number", json!(3), false),
        ];
        for (case, key, usable) in cases {
            assert_eq!(read(&[key]).is_ok(), usable, "{case}");
        }
        let many = read(&[json!({}), rsa(256, &json!({})), json!("x")]);
        assert_eq!(many.unwrap().keys.len(), 1);
        for document in ["", "[]", "{}", "{\"keys\": 3}"] {
            let error = KeySet::read(document.as_bytes()).unwrap_err();
            assert_eq!(error, KeysError::NotKeys, "{document}");
        }
    }

    /// Signed by others: the examples of RFC 7515, appendices A.2 and A.3.
    #[test]
    fn the_examples_of_the_standard_are_good_and_their_changes_bad() {
        let set = read(&[
            json!({"kty": "RSA", "e": "AQAB", "n": concat!(
                "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEz",
                "P1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf6",
                "3kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5Zw",
                "Kh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRW",
                "yuXpoQ")}),
            json!({"kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
        ])
        .unwrap();
        let payload = concat!(
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290",
            "Ijp0cnVlfQ"
        );
        let cases = [
            (
                Algorithm::Rs256,
                "eyJhbGciOiJSUzI1NiJ9",
                concat!(
                    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF",
                    "5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK",
                    "5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqt",
                    "FZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB",
                    "p0igcN_IoypGlUPQGe77Rw"
                ),
            ),
            (
                Algorithm::Es256,
                "eyJhbGciOiJFUzI1NiJ9",
                concat!(
                    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-K",
                    "g6NU1Q"
                ),
            ),
        ];
        for (algorithm, header, signature) in cases {
            let message = format!("{header}.{payload}");
            let signature = decode(signature).unwrap();
            let check = |algorithm, id, message: &str, signature: &[u8]| {
                set.check(algorithm, id, message.as_bytes(), signature)
            };
            let good = check(algorithm, None, &message, &signature);
            assert_eq!(good, Checked::Good, "{algorithm:?}");
            let named = check(algorithm, Some("another"), &message, &signature);
            assert_eq!(named, Checked::UnknownKey, "{algorithm:?}");
            let mut changed = signature.clone();
            changed[7] ^= 1;
            for (message, signature) in [
                (message.as_str(), changed.as_slice()),
                (message.as_str(), &[]),
                (&message[1..], &signature),
            ] {
                let bad = check(algorithm, None, message, signature);
                assert_ne!(bad, Checked::Good, "{algorithm:?}");
            }
            for other in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Ps256] {
                let answer = check(other, None, &message, &signature);
                assert_eq!(answer == Checked::Good, other == algorithm, "{other:?}");
            }
        }
    }
}
