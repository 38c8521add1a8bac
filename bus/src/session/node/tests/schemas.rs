//! What a node says of its types when it is asked.

use std::any::TypeId;

use super::*;
use crate::{
    message::{
        ShmType,
        schema::{Builder, Schema, TypeRef},
    },
    session::{frame::SCHEMA_MAX, schemas},
};

/// A type whose description has so many bytes of text.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Long<const LEN: usize>(u8);

impl<const LEN: usize> ShmType for Long<LEN> {
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.opaque::<Self>(&"x".repeat(LEN))
    }

    fn out_of_line(&self) -> Option<usize> {
        Some(0)
    }
}

const NAME: &str = "tests.Long";

fn kind<const MESSAGE: usize, const REPLY: usize>() -> Kind {
    Kind {
        name: NAME,
        schema: Schema::of::<Long<MESSAGE>>,
        reply: Schema::of::<Long<REPLY>>,
        id: TypeId::of::<(Long<MESSAGE>, Long<REPLY>)>(),
    }
}

/// What a schema takes besides its text.
const REST: usize = 56;
/// As long as may be.
const MOST: usize = SCHEMA_MAX - REST;
/// Longer, by as little as an archive can be.
const OVER: usize = MOST + 8;

#[tokio::test]
async fn a_type_whose_description_is_too_long_is_told_without_it_and_ends_no_session() {
    let bytes = |schema| schemas::encode(&schema).unwrap().len();
    assert_eq!(bytes(Schema::of::<Long<MOST>>()), SCHEMA_MAX);
    assert!(bytes(Schema::of::<Long<OVER>>()) > SCHEMA_MAX);
    let (node, _dir) = node(permit().call(">").subscribe(">"), |config| config).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut held = Vec::new();
    let kinds = [
        kind::<MOST, MOST>(),
        kind::<OVER, MOST>(),
        kind::<MOST, OVER>(),
        kind::<OVER, OVER>(),
    ];
    for (at, kind) in kinds.into_iter().enumerate() {
        held.push(node.bind(&port, &format!("actor{at}"), vec![kind], 8).unwrap());
        let topic = node
            .publish_topic(port.clone(), &format!("topic{at}"), kind, 0)
            .await;
        drop(topic.unwrap());
    }
    let mut other = Other::meet(&node);
    other.said().await;
    for what in ["actor", "topic"] {
        for (at, told) in [(true, true), (false, true), (true, false), (false, false)]
            .into_iter()
            .enumerate()
        {
            other.say(&Frame::Describe {
                request: 1,
                name: format!("{what}{at}"),
                kind: NAME.to_owned(),
            });
            match &other.said().await[..] {
                [
                    Frame::Described {
                        request: 1,
                        schema,
                        reply,
                    },
                ] => {
                    assert_eq!((schema.is_some(), reply.is_some()), told, "{what}{at}");
                    for schema in [schema, reply].into_iter().flatten() {
                        assert_eq!(schemas::decode(schema), Some(Schema::of::<Long<MOST>>()));
                    }
                }
                said => panic!("{said:?}"),
            }
        }
    }
    node.leave().await;
}
