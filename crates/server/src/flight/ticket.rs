//! Tickets and statement handles: a statement that travels with its client.
//!
//! A ticket holds the SQL and the bound values, for whom it was made and until when. It outlives the
//! statement and the connection it came from, can be redeemed more than once and by any server with
//! the same key, and only by its principal. A handle is the same for a prepared statement, without
//! an end. Neither is secret from its holder, who wrote what is in it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use arrow_flight::Ticket;
use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use bytes::Bytes;
use prost::Message;
use tietopohja_policy::Principal;
use tonic::Status;

use super::message::{StatementPayload, TicketPayload};
use crate::auth::Holder;
use crate::seal::{Purpose, Sealer};

/// The ticket as a client gets it.
pub(crate) fn write_ticket(sealer: &Sealer, payload: &TicketPayload) -> Ticket {
    let sealed = sealer.seal(Purpose::Ticket, &payload.encode_to_vec());
    let message = TicketStatementQuery {
        statement_handle: sealed.into(),
    };
    Ticket {
        ticket: message.as_any().encode_to_vec().into(),
    }
}

/// The command inside a ticket of `DoGet`.
pub(crate) fn read_command(ticket: &[u8]) -> Result<Command, Status> {
    let any = Any::decode(ticket).map_err(|_| {
        Status::invalid_argument("the bytes are not a Flight SQL command or ticket")
    })?;
    Command::try_from(any)
        .map_err(|_| Status::invalid_argument("the Flight SQL command cannot be read"))
}

/// The payload of a ticket, if it is ours, for this principal. Expired tickets are read too: the
/// caller decides.
pub(crate) fn read_ticket(
    sealer: &Sealer,
    ticket: &TicketStatementQuery,
    principal: &Principal,
) -> Result<TicketPayload, Status> {
    let payload = sealer.open(Purpose::Ticket, &ticket.statement_handle)?;
    let payload = TicketPayload::decode(payload)
        .map_err(|_| Status::invalid_argument("the ticket is of another version of the server"))?;
    check_holder(payload.holder.as_ref(), principal)?;
    Ok(payload)
}

/// The handle as a client gets it.
pub(crate) fn write_handle(sealer: &Sealer, payload: &StatementPayload) -> Bytes {
    sealer
        .seal(Purpose::Statement, &payload.encode_to_vec())
        .into()
}

/// The payload of a handle, if it is ours, for this principal.
pub(crate) fn read_handle(
    sealer: &Sealer,
    handle: &[u8],
    principal: &Principal,
) -> Result<StatementPayload, Status> {
    let payload = sealer.open(Purpose::Statement, handle)?;
    let payload = StatementPayload::decode(payload).map_err(|_| {
        Status::invalid_argument("the statement is of another version of the server")
    })?;
    check_holder(payload.holder.as_ref(), principal)?;
    Ok(payload)
}

fn check_holder(holder: Option<&Holder>, principal: &Principal) -> Result<(), Status> {
    if holder.is_some_and(|holder| holder.is(principal)) {
        Ok(())
    } else {
        Err(Status::permission_denied(
            "the ticket or statement was made for another user or role",
        ))
    }
}

/// Values bound to statements whose client keeps using the first handle.
///
/// The protocol lets a server answer a bind with a new handle that carries the values, and this one
/// does. Older clients do not read that answer; for them the values are kept here, for a while.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    kept: Mutex<VecDeque<(Bytes, Bytes)>>,
}

const MOST_BINDINGS: usize = 1024;
const MOST_BINDING_BYTES: usize = 32 * 1024 * 1024;

impl Bindings {
    /// Keeps the values of a statement, in place of earlier ones.
    pub(crate) fn keep(&self, statement_id: &Bytes, parameters: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(id, _)| id != statement_id);
        kept.push_back((statement_id.clone(), parameters));
        let mut bytes: usize = kept.iter().map(|(_, parameters)| parameters.len()).sum();
        while kept.len() > MOST_BINDINGS || bytes > MOST_BINDING_BYTES {
            match kept.pop_front() {
                Some((_, oldest)) => bytes -= oldest.len(),
                None => break,
            }
        }
    }

    /// The values of a statement.
    pub(crate) fn get(&self, statement_id: &Bytes) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .find(|(id, _)| id == statement_id)
            .map(|(_, parameters)| parameters.clone())
    }

    /// Forgets the values of a statement.
    pub(crate) fn forget(&self, statement_id: &Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(id, _)| id != statement_id);
    }
}

#[cfg(test)]
mod tests {
    use tietopohja_policy::Role;
    use tonic::Code;

    use super::*;

    fn who(name: &str, role: Role) -> Principal {
        Principal::new(name, role).unwrap()
    }

    fn payload(principal: &Principal) -> TicketPayload {
        TicketPayload {
            holder: Some(Holder::of(principal)),
            sql: "SELECT 1".to_owned(),
            parameters: None,
            expires: 10,
            query_id: Bytes::from_static(b"0123456789abcdef"),
            ..TicketPayload::default()
        }
    }

    #[test]
    fn a_ticket_is_good_for_its_principal_in_any_process_with_the_key() {
        let aino = who("aino", Role::Reader);
        let ticket = write_ticket(&Sealer::new([3; 32]), &payload(&aino));
        let Command::TicketStatementQuery(inside) = read_command(&ticket.ticket).unwrap() else {
            unreachable!("a ticket is a statement ticket")
        };
        let elsewhere = Sealer::new([3; 32]);
        assert_eq!(
            read_ticket(&elsewhere, &inside, &aino).unwrap(),
            payload(&aino)
        );
        for other in [who("eino", Role::Reader), who("aino", Role::Admin)] {
            let status = read_ticket(&elsewhere, &inside, &other).unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied);
        }
        let status = read_ticket(&Sealer::new([4; 32]), &inside, &aino).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }

    #[test]
    fn a_ticket_is_not_a_handle() {
        let aino = who("aino", Role::Reader);
        let sealer = Sealer::new([3; 32]);
        let ticket = sealer.seal(Purpose::Ticket, &payload(&aino).encode_to_vec());
        assert_eq!(
            read_handle(&sealer, &ticket, &aino).unwrap_err().code(),
            Code::InvalidArgument
        );
    }

    #[test]
    fn rubbish_is_refused_without_a_panic() {
        for rubbish in [&b"SELECT 1"[..], b"", b"\0\xFF\x08", &[0xFF; 100]] {
            if let Ok(command) = read_command(rubbish) {
                assert!(matches!(command, Command::Unknown(_)), "{command:?}");
            }
        }
    }

    #[test]
    fn kept_values_are_replaced_forgotten_and_bounded() {
        let bindings = Bindings::default();
        let id = |number: usize| Bytes::from(number.to_string());
        bindings.keep(&id(0), Bytes::from_static(b"a"));
        bindings.keep(&id(0), Bytes::from_static(b"b"));
        assert_eq!(bindings.get(&id(0)), Some(Bytes::from_static(b"b")));
        bindings.forget(&id(0));
        assert_eq!(bindings.get(&id(0)), None);
        for number in 0..=MOST_BINDINGS {
            bindings.keep(&id(number), Bytes::new());
        }
        assert_eq!(bindings.get(&id(0)), None);
        assert!(bindings.get(&id(1)).is_some());
        let large = Bytes::from(vec![0; MOST_BINDING_BYTES / 2 + 1]);
        bindings.keep(&id(1), large.clone());
        bindings.keep(&id(2), large);
        assert_eq!(bindings.get(&id(1)), None);
        assert!(bindings.get(&id(2)).is_some());
    }
}
