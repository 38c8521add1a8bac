//! Schemas on their way between two nodes.

use rkyv::{rancor, util::AlignedVec};

use super::{frame::SCHEMA_MAX, peer::Described};
use crate::message::schema::Schema;

/// A schema as bytes; `None` if it cannot be archived (nested too deeply).
pub(crate) fn encode(schema: &Schema) -> Option<Vec<u8>> {
    rkyv::to_bytes::<rancor::Error>(schema)
        .ok()
        .map(|bytes| bytes.to_vec())
}

/// A schema as an answer to a peer's question; `None` if it cannot be archived, or is too long for the frame.
pub(crate) fn answer(schema: &Schema) -> Option<Vec<u8>> {
    encode(schema).filter(|bytes| bytes.len() <= SCHEMA_MAX)
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Schema> {
    let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    rkyv::from_bytes::<Schema, rancor::Error>(&aligned).ok()
}

/// Says how two message types of one name differ, as well as the peer's answer allows.
pub(crate) fn explain(schema: &Schema, reply: &Schema, theirs: &Described) -> String {
    let compare = |ours: &Schema, theirs: &Option<Vec<u8>>| {
        let theirs = theirs.as_deref().and_then(decode)?;
        Schema::difference(ours, &theirs)
    };
    match (compare(schema, &theirs.0), compare(reply, &theirs.1)) {
        (Some(message), _) => message,
        (None, Some(reply)) => format!("its reply: {reply}"),
        (None, None) => "their fingerprints differ (the peer's schema is not to be had)".to_owned(),
    }
}
