//! Descriptions of types, as peers send them.

use super::{
    input::Input,
    types::{Nested, Picture, Tree},
};
use crate::{
    message::schema::Schema,
    session::{
        frame::SCHEMA_MAX,
        schemas::{self as wire},
    },
};

/// Longest text about a schema, in bytes: what is printed of one, or of a difference, is for people.
const TEXT: usize = 1 << 20;

/// Two schemas.
pub fn schemas(data: &[u8]) {
    let mut input = Input(data);
    let first = input.packet();
    let second = input.0;
    let answer = |bytes: &[u8]| (bytes.len() <= SCHEMA_MAX).then(|| bytes.to_vec());
    let (ours, reply) = (Schema::of::<Tree>(), Schema::of::<Nested>());
    assert!(wire::explain(&ours, &reply, &(answer(first), answer(second))).len() < TEXT);

    let decoded = [first, second].map(|bytes| wire::decode(bytes.get(..SCHEMA_MAX).unwrap_or(bytes)));
    let own = [
        Schema::of::<Tree>(),
        Schema::of::<Nested>(),
        Schema::of::<Picture>(),
    ];
    let all: Vec<Schema> = decoded.into_iter().flatten().collect();
    for schema in &all {
        assert!(schema.to_string().len() < TEXT);
        assert!(format!("{schema:#}").len() < TEXT);
        let _ = (schema.is_recursive(), schema.may_nest());
        assert_eq!(schema.fingerprint(), schema.clone().fingerprint());
        for other in all.iter().chain(&own) {
            for difference in [
                Schema::difference(schema, other),
                Schema::difference(other, schema),
            ] {
                assert!(difference.is_none_or(|text| text.len() < TEXT));
            }
        }
    }
}
