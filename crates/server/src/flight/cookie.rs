//! The cookie of a session: for clients that keep cookies, a session without a bearer, and settings
//! that go with them to another server.
//!
//! A bearer of ours names the session of a call; only without one does the cookie. A client that shows
//! an API token or a password with each call gets a session with the first answer, if it keeps cookies.
//! The cookie carries the settings under the server's seal, with the number of their last change, so
//! that a server that knows an older state, or none, takes the newer. It opens nothing: it counts only
//! beside credentials of the principal that it was made for.
//!
//! What a call sets is put aside by [`set`] and sent with its answer by [`during`].

use std::cell::RefCell;
use std::future::Future;

use bytes::Bytes;
use prost::Message;
use tietopohja_policy::Principal;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Response, Status};

use super::session::Settings;
use crate::auth::{Holder, SessionId, from_hex, to_hex};
use crate::seal::{Purpose, Sealer};

/// The cookie's name.
const NAME: &str = "tietopohja-session";

/// What a cookie says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cookie {
    pub(crate) session: SessionId,
    pub(crate) settings: Settings,
    /// How many changes made the settings.
    pub(crate) changes: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(message, optional, tag = "1")]
    holder: Option<Holder>,
    #[prost(bytes = "bytes", tag = "2")]
    session_id: Bytes,
    #[prost(uint64, tag = "3")]
    changes: u64,
    /// Settings that are not as they are by default: names and values in turn.
    #[prost(string, repeated, tag = "4")]
    settings: Vec<String>,
}

impl Cookie {
    /// The cookie of a new session.
    pub(crate) fn new(session: SessionId) -> Self {
        Self {
            session,
            settings: Settings::default(),
            changes: 0,
        }
    }

    /// The cookie in the headers of a call, if it was made for this principal.
    pub(crate) fn of(
        metadata: &MetadataMap,
        principal: &Principal,
        sealer: &Sealer,
    ) -> Option<Self> {
        let headers = metadata.get_all("cookie").into_iter();
        let mut pairs = headers
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == NAME)?;
        let sealed = from_hex(value.trim_matches('"'))?;
        let payload = Payload::decode(sealer.open(Purpose::Session, &sealed).ok()?).ok()?;
        if !payload.holder?.is(principal) {
            return None;
        }
        let mut settings = Settings::default();
        let (pairs, _) = payload.settings.as_chunks::<2>();
        for [name, value] in pairs {
            // A setting that another version of the server knew is left out.
            let _unknown = settings.set(name, Some(value));
        }
        Some(Self {
            session: SessionId::of(payload.session_id),
            settings,
            changes: payload.changes,
        })
    }

    /// The cookie as a client keeps it.
    fn sealed(&self, principal: &Principal, sealer: &Sealer) -> String {
        let payload = Payload {
            holder: Some(Holder::of(principal)),
            session_id: self.session.bytes(),
            changes: self.changes,
            settings: self
                .settings
                .changed()
                .flat_map(<[String; 2]>::from)
                .collect(),
        };
        let sealed = sealer.seal(Purpose::Session, &payload.encode_to_vec());
        format!("{NAME}={}; Path=/; HttpOnly", to_hex(&sealed))
    }
}

tokio::task_local! {
    /// What the answer of this call sets.
    static ASIDE: RefCell<Option<String>>;
}

/// The client shall keep this.
pub(crate) fn set(cookie: &Cookie, principal: &Principal, sealer: &Sealer) {
    put_aside(cookie.sealed(principal, sealer));
}

/// The client shall forget its cookie.
pub(crate) fn forget() {
    put_aside(format!("{NAME}=; Path=/; HttpOnly; Max-Age=0"));
}

fn put_aside(text: String) {
    // Outside of a call nobody could be told.
    let _no_call = ASIDE.try_with(|aside| aside.replace(Some(text)));
}

/// Runs a call and sends what it has set with its answer.
pub(crate) async fn during<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    let told = async {
        let mut answer = call.await;
        let text = ASIDE.with(RefCell::take);
        if let Some(Ok(value)) = text.map(AsciiMetadataValue::try_from) {
            let metadata = match &mut answer {
                Ok(response) => response.metadata_mut(),
                Err(status) => status.metadata_mut(),
            };
            metadata.insert("set-cookie", value);
        }
        answer
    };
    ASIDE.scope(RefCell::default(), told).await
}

#[cfg(test)]
mod tests {
    use tietopohja_policy::Role;

    use super::*;

    fn principal(name: &str, role: Role) -> Principal {
        Principal::new(name, role).unwrap()
    }

    fn cookie() -> Cookie {
        let mut settings = Settings::default();
        settings.set("as_of", Some("2026-03-01")).unwrap();
        settings.set("timestamps", Some("helsinki")).unwrap();
        Cookie {
            session: SessionId::of(Bytes::from_static(b"0123456789abcdef")),
            settings,
            changes: 3,
        }
    }

    fn headers(value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("cookie", value.parse().unwrap());
        metadata
    }

    #[test]
    fn a_cookie_counts_for_its_principal_and_its_key_only() {
        let sealer = Sealer::new([1; 32]);
        let anni = principal("anni", Role::Analyst);
        let kept = cookie().sealed(&anni, &sealer);
        let kept = kept.split(';').next().unwrap();
        let among_others = format!("a=b; {kept}; c=d");
        let read = |text: &str, principal: &Principal, key: u8| {
            Cookie::of(&headers(text), principal, &Sealer::new([key; 32]))
        };
        assert_eq!(read(kept, &anni, 1), Some(cookie()));
        assert_eq!(read(&among_others, &anni, 1), Some(cookie()));
        for (text, principal, key) in [
            (kept, principal("anni", Role::Reader), 1),
            (kept, principal("aino", Role::Analyst), 1),
            (kept, anni.clone(), 2),
            (&kept[..kept.len() - 2], anni.clone(), 1),
            (
                &kept.replace("tietopohja-session", "other"),
                anni.clone(),
                1,
            ),
            ("tietopohja-session=", anni.clone(), 1),
            ("tietopohja-session", anni.clone(), 1),
        ] {
            assert_eq!(read(text, &principal, key), None, "{text} {principal}");
        }
        let changed = kept.replace("tietopohja-session=0", "tietopohja-session=1");
        assert_eq!(read(&changed, &anni, 1), None);
    }

    #[tokio::test]
    async fn an_answer_and_an_error_carry_what_was_set() {
        let sealer = Sealer::new([1; 32]);
        let anni = principal("anni", Role::Analyst);
        let answer = during(async {
            set(&cookie(), &anni, &sealer);
            Ok(Response::new(()))
        });
        let answer = answer.await.unwrap();
        assert!(answer.metadata().get("set-cookie").is_some());
        let failed = during(async {
            forget();
            Err::<Response<()>, _>(Status::not_found(""))
        });
        let failed = failed.await.unwrap_err();
        let value = failed.metadata().get("set-cookie").unwrap();
        assert!(value.to_str().unwrap().contains("Max-Age=0"));
        let nothing = during(async { Ok(Response::new(())) }).await.unwrap();
        assert!(nothing.metadata().get("set-cookie").is_none());
    }
}
