use proptest::{collection::vec, option, prelude::*};

use super::*;

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9_-][a-zA-Z0-9._/:-]{0,127}"
}

fn word() -> impl Strategy<Value = String> {
    "[ -~]{0,40}"
}

fn binding() -> impl Strategy<Value = Binding> {
    let kind =
        (word(), any::<(u64, u64)>()).prop_map(|(name, (schema, reply))| KindInfo { name, schema, reply });
    (name(), any::<(u32, u32, u32)>(), vec(kind, 0..5)).prop_map(|(name, (port, mailbox, window), kinds)| {
        Binding {
            name,
            port,
            mailbox,
            window,
            kinds,
        }
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let schema = || option::of(vec(any::<u8>(), 0..200));
    prop_oneof![
        (vec(binding(), 0..6), any::<bool>()).prop_map(|(bound, more)| Frame::Names { bound, more }),
        binding().prop_map(Frame::Bound),
        (name(), any::<(u32, u32)>()).prop_map(|(name, (port, mailbox))| Frame::Unbound {
            name,
            port,
            mailbox
        }),
        (any::<u32>(), name(), word()).prop_map(|(request, name, kind)| Frame::Describe {
            request,
            name,
            kind
        }),
        (any::<u32>(), schema(), schema()).prop_map(|(request, schema, reply)| Frame::Described {
            request,
            schema,
            reply
        }),
        any::<(u32, u32, u32, u32, u32, u64)>().prop_map(
            |(link, from_port, to_port, ring_slots, returns, bytes)| {
                Frame::Link {
                    link,
                    from_port,
                    to_port,
                    ring_slots,
                    returns,
                    bytes,
                }
            }
        ),
        any::<(u32, u32, u32, u32, u64)>().prop_map(|(link, peer_link, ring_slots, returns, bytes)| {
            Frame::Linked {
                link,
                peer_link,
                ring_slots,
                returns,
                bytes,
            }
        }),
        (any::<u32>(), word()).prop_map(|(link, reason)| Frame::LinkRefused { link, reason }),
        any::<u32>().prop_map(|link| Frame::Unlink { link }),
        any::<(u32, u64)>().prop_map(|(id, bytes)| Frame::Segment { id, bytes }),
        word().prop_map(|reason| Frame::Bye { reason }),
        (any::<u32>(), kind_info()).prop_map(|(id, kind)| {
            Frame::Topic(TopicInfo {
                id,
                name: "md.ticks-1.x_y".into(),
                kind,
            })
        }),
        (
            any::<(u32, u32, bool, u32)>(),
            0..=DEPTH_MAX as u32,
            kind_info(),
            option::of(word())
        )
            .prop_map(|((port, mailbox, wait, keep), depth, kind, group)| {
                let pattern = "md.*.>".into();
                Frame::Subscribe(SubscriptionInfo {
                    port,
                    mailbox,
                    pattern,
                    kind,
                    depth,
                    wait,
                    keep: keep.min(depth),
                    group,
                })
            }),
        any::<(u32, u32)>().prop_map(|(port, mailbox)| Frame::Unsubscribe { port, mailbox }),
        any::<(u32, u32, u32, u32, u32)>().prop_map(|(port, mailbox, topic, link, route)| {
            Frame::Attached {
                port,
                mailbox,
                topic,
                link,
                route,
            }
        }),
        any::<u32>().prop_map(|id| Frame::Untopic { id }),
        any::<u32>().prop_map(|id| Frame::Heard(Announcement::Topic { id })),
        any::<(u32, u32)>()
            .prop_map(|(port, mailbox)| Frame::Heard(Announcement::Subscription { port, mailbox })),
        (0usize..4, vec(word(), 0..5)).prop_map(|(what, names)| {
            let all = [Denial::Call, Denial::Bind, Denial::Publish, Denial::Subscribe];
            Frame::Denied {
                what: all[what],
                names,
            }
        }),
    ]
}

fn kind_of(name: &str) -> KindInfo {
    KindInfo {
        name: name.into(),
        schema: 1,
        reply: 2,
    }
}

fn kind_info() -> impl Strategy<Value = KindInfo> {
    (word(), any::<(u64, u64)>()).prop_map(|(name, (schema, reply))| KindInfo { name, schema, reply })
}

/// The most memory a frame holds on the heap, in bytes.
fn heap(frame: &Frame) -> usize {
    let binding = |binding: &Binding| {
        binding.name.capacity()
            + binding.kinds.capacity() * size_of::<KindInfo>()
            + binding
                .kinds
                .iter()
                .map(|kind| kind.name.capacity())
                .sum::<usize>()
    };
    match frame {
        Frame::Names { bound, .. } => {
            bound.capacity() * size_of::<Binding>() + bound.iter().map(binding).sum::<usize>()
        }
        Frame::Bound(bound) => binding(bound),
        Frame::Unbound { name, .. } => name.capacity(),
        Frame::Describe { name, kind, .. } => name.capacity() + kind.capacity(),
        Frame::Described { schema, reply, .. } => {
            [schema, reply].into_iter().flatten().map(Vec::capacity).sum()
        }
        Frame::Denied { names, .. } => {
            names.capacity() * size_of::<String>() + names.iter().map(String::capacity).sum::<usize>()
        }
        Frame::LinkRefused { reason, .. } | Frame::Bye { reason } => reason.capacity(),
        Frame::Topic(topic) => topic.name.capacity() + topic.kind.name.capacity(),
        Frame::Subscribe(wanted) => {
            let group = wanted.group.as_ref().map_or(0, String::capacity);
            wanted.pattern.capacity() + wanted.kind.name.capacity() + group
        }
        Frame::Link { .. }
        | Frame::Linked { .. }
        | Frame::Unlink { .. }
        | Frame::Segment { .. }
        | Frame::Unsubscribe { .. }
        | Frame::Attached { .. }
        | Frame::Untopic { .. }
        | Frame::Heard(_) => 0,
    }
}

/// Decodes what a foreign process may have sent: no panic, no size out of proportion.
fn decode_foreign(bytes: &[u8]) -> Result<(), TestCaseError> {
    for fds in [0, 1, 3] {
        if let Ok(frame) = Frame::decode(bytes, fds) {
            prop_assert!(
                heap(&frame) <= 4 * bytes.len(),
                "{} bytes became {}",
                bytes.len(),
                heap(&frame)
            );
            prop_assert_eq!(frame.fds(), fds);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn frames_round_trip(frame in frame(), shift in 0usize..16) {
        let bytes = frame.encode().unwrap();
        // Wherever the receive buffer happens to lie.
        let mut received = vec![0; shift];
        received.extend_from_slice(&bytes);
        prop_assert_eq!(Frame::decode(&received[shift..], frame.fds()).unwrap(), frame);
    }

    #[test]
    fn any_bytes_are_judged(bytes in vec(any::<u8>(), 0..400)) {
        decode_foreign(&bytes)?;
    }

    #[test]
    fn damaged_frames_are_judged(
        frame in frame(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = frame.encode().unwrap().into_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.drain(..keep.index(bytes.len()));
        }
        decode_foreign(&bytes)?;
    }

    #[test]
    fn a_snapshot_is_split_to_fit_and_complete(bindings in vec(binding(), 0..60), copies in 1usize..30) {
        let all: Vec<_> = std::iter::repeat_n(bindings, copies).flatten().collect();
        let frames = Frame::names(all.clone());
        let mut got = Vec::new();
        for (n, frame) in frames.iter().enumerate() {
            let bytes = frame.encode().unwrap();
            match Frame::decode(&bytes, 0).unwrap() {
                Frame::Names { bound, more } => {
                    prop_assert_eq!(more, n + 1 < frames.len());
                    got.extend(bound);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(got, all);
    }
}

fn largest_binding() -> Binding {
    let kind = KindInfo {
        name: "k".repeat(TEXT_MAX),
        schema: 1,
        reply: 2,
    };
    let name = "n".repeat(names::ACTOR_MAX);
    Binding {
        name,
        port: 1,
        mailbox: 2,
        window: 3,
        kinds: vec![kind; KINDS_MAX],
    }
}

#[test]
fn what_is_at_every_limit_fits_one_packet() {
    let schema = Some(vec![1; SCHEMA_MAX]);
    for frame in [
        Frame::Bound(largest_binding()),
        Frame::Names {
            bound: vec![largest_binding()],
            more: false,
        },
        Frame::Described {
            request: 1,
            schema: schema.clone(),
            reply: schema,
        },
    ] {
        assert_eq!(Frame::decode(&frame.encode().unwrap(), 0).unwrap(), frame);
    }
    assert_eq!(Frame::names(vec![largest_binding(); 3]).len(), 3);
    let small = Binding {
        kinds: vec![],
        name: "n".into(),
        ..largest_binding()
    };
    let frames = Frame::names(vec![small; 2 * BINDINGS_MAX + 1]);
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|frame| frame.encode().is_ok()));
    assert_eq!(
        Frame::names([]),
        [Frame::Names {
            bound: vec![],
            more: false
        }]
    );
}

/// Archived without our limits, as a foreign process may.
fn unchecked(frame: &Frame) -> AlignedVec {
    rkyv::to_bytes::<rancor::Error>(frame).unwrap()
}

#[test]
fn what_is_over_a_limit_is_neither_sent_nor_accepted() {
    let long = "x".repeat(TEXT_MAX + 1);
    let kind = KindInfo {
        name: String::new(),
        schema: 0,
        reply: 0,
    };
    let bound = |name: &str, kinds| Binding {
        name: name.into(),
        port: 0,
        mailbox: 0,
        window: 0,
        kinds,
    };
    let limit = |kind, what, got, limit| FrameError::Limit {
        kind,
        what,
        got,
        limit,
    };
    let badly_named = |kind| FrameError::Name {
        kind,
        problem: "it is empty",
    };
    for (frame, error) in [
        (
            Frame::Bye { reason: long.clone() },
            limit("Bye", "reason", 257, 256),
        ),
        (
            Frame::LinkRefused {
                link: 1,
                reason: long.clone(),
            },
            limit("LinkRefused", "reason", 257, 256),
        ),
        (
            Frame::Bound(bound(
                "n",
                vec![KindInfo {
                    name: long.clone(),
                    ..kind.clone()
                }],
            )),
            limit("Bound", "message name", 257, 256),
        ),
        (
            Frame::Bound(bound("n", vec![kind; 129])),
            limit("Bound", "list of messages", 129, 128),
        ),
        (
            Frame::Names {
                bound: vec![bound("n", vec![]); 513],
                more: false,
            },
            limit("Names", "list of bindings", 513, 512),
        ),
        (
            Frame::Names {
                bound: vec![bound("", vec![])],
                more: true,
            },
            badly_named("Names"),
        ),
        (
            Frame::Unbound {
                name: String::new(),
                port: 1,
                mailbox: 1,
            },
            badly_named("Unbound"),
        ),
        (
            Frame::Describe {
                request: 1,
                name: long.clone(),
                kind: "k".into(),
            },
            limit("Describe", "name", 257, 256),
        ),
        (
            Frame::Topic(TopicInfo {
                id: 1,
                name: "a.*".into(),
                kind: kind_of("k"),
            }),
            FrameError::Name {
                kind: "Topic",
                problem: "wildcards are for subscribers only",
            },
        ),
        (
            Frame::Describe {
                request: 1,
                name: "n".into(),
                kind: long,
            },
            limit("Describe", "message name", 257, 256),
        ),
        (
            Frame::Described {
                request: 1,
                schema: None,
                reply: Some(vec![0; SCHEMA_MAX + 1]),
            },
            limit("Described", "schema", 24_577, 24_576),
        ),
    ] {
        assert_eq!(frame.encode().unwrap_err(), error);
        assert_eq!(Frame::decode(&unchecked(&frame), 0).unwrap_err(), error);
    }
    let huge = unchecked(&Frame::Bye {
        reason: "x".repeat(MAX_FRAME),
    });
    assert_eq!(Frame::decode(&huge, 0).unwrap_err(), FrameError::Size(huge.len()));
}

#[test]
fn descriptors_must_be_as_many_as_the_kind_takes() {
    for (frame, want) in [
        (
            Frame::Link {
                link: 1,
                from_port: 2,
                to_port: 3,
                ring_slots: 4,
                returns: 5,
                bytes: 6,
            },
            3,
        ),
        (
            Frame::Linked {
                link: 1,
                peer_link: 2,
                ring_slots: 3,
                returns: 4,
                bytes: 5,
            },
            3,
        ),
        (Frame::Segment { id: 1, bytes: 2 }, 1),
        (Frame::Unlink { link: 1 }, 0),
        (Frame::Heard(Announcement::Topic { id: 1 }), 0),
        (Frame::bye("done"), 0),
    ] {
        let bytes = frame.encode().unwrap();
        for got in 0..=4 {
            match Frame::decode(&bytes, got) {
                Ok(frame) => assert_eq!((frame.fds(), got), (want, want)),
                Err(error) => assert_eq!(
                    error,
                    FrameError::Descriptors {
                        kind: frame.kind(),
                        got,
                        want
                    }
                ),
            }
        }
    }
}

#[test]
fn reasons_are_cut_to_fit() {
    let long = "\u{e9}".repeat(TEXT_MAX);
    for frame in [Frame::bye(&long), Frame::link_refused(7, &long)] {
        assert_eq!(Frame::decode(&frame.encode().unwrap(), 0).unwrap(), frame);
    }
}
