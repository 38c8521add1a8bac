//! The table: each field, the values it is given, and what must come of each.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use shmbus::fuzz::peer::{self, HEAD_AT, LOSSES_AT, Memory, WAITING_AT};

use crate::peer::{RETURNS, Rig, SLOTS, Slot, Stage};

#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// The session is closed, counted as a violation, with a reason that has these words.
    Closed(&'static str),
    /// The session is closed as by a hang-up, for this reason.
    HungUp(&'static str),
    /// Nothing happens but what this says.
    Harmless(&'static str),
}

pub struct Row {
    pub stage: Stage,
    pub area: &'static str,
    pub field: &'static str,
    pub value: String,
    pub expect: Expect,
    /// What the victim is told to do then.
    pub then: &'static str,
    pub act: Box<dyn FnOnce(&mut Rig)>,
}

impl Row {
    pub fn new(
        stage: Stage,
        (area, field): (&'static str, &'static str),
        value: impl ToString,
        expect: Expect,
        act: impl FnOnce(&mut Rig) + 'static,
    ) -> Self {
        Self {
            stage,
            area,
            field,
            value: value.to_string(),
            expect,
            then: "",
            act: Box::new(act),
        }
    }

    pub fn harmless(
        stage: Stage,
        area: &'static str,
        field: &'static str,
        why: &'static str,
        act: impl FnOnce(&mut Rig) + 'static,
    ) -> Self {
        Self::new(stage, (area, field), "", Expect::Harmless(why), act)
    }

    pub fn then(self, command: &'static str) -> Self {
        Self {
            then: command,
            ..self
        }
    }
}

use Expect::{Closed, Harmless, HungUp};

/// A slot of which one field is another.
fn slot(
    field: &'static str,
    value: impl ToString,
    expect: Expect,
    change: impl FnOnce(Slot) -> Slot + 'static,
) -> Row {
    Row::new(Stage::Asking, ("slot", field), value, expect, move |rig| {
        let slot = change(rig.ping());
        rig.put(slot);
    })
}

/// A slot that names a buffer of an announced segment.
fn buffer(
    field: &'static str,
    value: impl ToString,
    expect: Expect,
    change: impl FnOnce(Slot) -> Slot + 'static,
) -> Row {
    Row::new(Stage::Asking, ("buffer", field), value, expect, move |rig| {
        rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
        let slot = change(rig.ping());
        rig.put(slot);
    })
}

pub fn slots() -> Vec<Row> {
    let same = |slot: Slot| slot;
    let mut rows = vec![
        slot("all", "honest", Harmless("handled"), same),
        slot("all", "an ask", Harmless("answered"), |slot| Slot {
            kind: 2,
            ..slot
        }),
        slot(
            "sequence",
            "the lap before",
            Harmless("not published yet"),
            |slot| Slot {
                sequence: Some(0),
                ..slot
            },
        ),
        slot("kind", "reply", Closed("on the answering end"), |slot| Slot {
            kind: 3,
            ..slot
        }),
        slot("kind", "fail", Closed("on the answering end"), |slot| Slot {
            kind: 4,
            ..slot
        }),
        slot(
            "kind",
            "publish, to an actor",
            Closed("on the answering end"),
            |slot| Slot {
                kind: 5,
                len: 24,
                ..slot
            },
        ),
        slot("flags", "unknown ones", Harmless("ignored"), |slot| Slot {
            flags: 0xfe,
            ..slot
        }),
        slot(
            "inline length",
            "one less",
            Closed("not a valid archive"),
            |slot| Slot { len: 7, ..slot },
        ),
        slot("inline length", "0", Closed("not a valid archive"), |slot| Slot {
            len: 0,
            ..slot
        }),
        slot(
            "inline length",
            "two slots, one written",
            Closed("sequence word"),
            |slot| Slot { len: 48, ..slot },
        ),
        slot("mailbox", "another generation", Closed("never bound"), |slot| {
            Slot {
                mailbox: slot.mailbox.wrapping_add(9 << 16),
                ..slot
            }
        }),
        slot("message type", "1", Closed("of kind 1"), |slot| Slot {
            message: 1,
            ..slot
        }),
        slot("message type", "65535", Closed("of kind 65535"), |slot| Slot {
            message: u16::MAX,
            ..slot
        }),
        slot("route", "65535", Harmless("its own number"), |slot| Slot {
            route: u16::MAX,
            ..slot
        }),
        slot("correlation", "any, told", Harmless("not used"), |slot| Slot {
            correlation: u64::MAX,
            ..slot
        }),
        slot("correlation", "any, asked", Harmless("its own number"), |slot| {
            Slot {
                kind: 2,
                correlation: u64::MAX,
                ..slot
            }
        }),
        Row::new(
            Stage::Asking,
            ("slot", "all"),
            "replayed",
            Harmless("handled again"),
            |rig| {
                let slot = rig.ping();
                rig.put(slot);
                rig.put(slot);
            },
        ),
        Row::new(
            Stage::Asking,
            ("slot", "all"),
            "an old lap's",
            Closed("sequence word"),
            |rig| {
                let slot = rig.ping();
                rig.put(slot);
                rig.put(Slot {
                    sequence: Some(2),
                    ..slot
                });
            },
        ),
        Row::new(
            Stage::Asking,
            ("slot", "publish"),
            "of no known topic",
            Harmless("waits for its frame"),
            |rig| {
                let (_, mailbox, _) = rig.subscription.clone().expect("a subscription");
                rig.put(Slot {
                    kind: 5,
                    len: 24,
                    mailbox,
                    ..rig.ping()
                });
            },
        ),
        Row::new(
            Stage::Asking,
            ("slot", "publish"),
            "shorter than its head",
            Closed("inline length"),
            |rig| {
                attach(rig);
                let (_, mailbox, _) = rig.subscription.clone().expect("a subscription");
                rig.put(Slot {
                    kind: 5,
                    len: 3,
                    mailbox,
                    payload: [6, 0, 0, 0, 0],
                    ..rig.ping()
                });
            },
        )
        .then("lost"),
        buffer("all", "honest", Harmless("handled"), |slot| {
            slot.buffer(0, 3, 0, 8)
        }),
        buffer(
            "segment",
            "not announced",
            Harmless("waits for its frame"),
            |slot| slot.buffer(1, 0, 0, 8),
        ),
        buffer(
            "segment",
            "of its own, not announced",
            Harmless("waits for its frame"),
            |slot| slot.buffer(1 << 31, 0, 0, 8),
        ),
        buffer("token", "any", Harmless("its own number"), |slot| {
            slot.buffer(0, u32::MAX, 64, 8)
        }),
        buffer("length", "0", Closed("not a valid archive"), |slot| {
            slot.buffer(0, 0, 0, 0)
        }),
        buffer("length", "short", Closed("not a valid archive"), |slot| {
            slot.buffer(0, 0, 0, 7)
        }),
        buffer(
            "length",
            "to the end and one more",
            Closed("does not lie in"),
            |slot| slot.buffer(0, 0, 4032, 65),
        ),
    ];
    rows.push(Row::new(
        Stage::Asking,
        ("slot", "kind"),
        "tell, to a subscription",
        Closed("on the answering end"),
        |rig| {
            let (_, mailbox, _) = rig.subscription.clone().expect("a subscription");
            rig.put(Slot {
                mailbox,
                ..rig.ping()
            });
        },
    ));
    for kind in [0, 7, 255] {
        rows.push(slot("kind", kind, Closed("kind byte"), move |slot| Slot {
            kind,
            ..slot
        }));
    }
    for sequence in [2, 3, u32::MAX] {
        rows.push(slot("sequence", sequence, Closed("sequence word"), move |slot| {
            Slot {
                sequence: Some(sequence),
                ..slot
            }
        }));
    }
    for mailbox in [77, 0xffff, u32::MAX] {
        rows.push(slot("mailbox", mailbox, Closed("never bound"), move |slot| {
            Slot { mailbox, ..slot }
        }));
    }
    for len in [97, 255] {
        rows.push(Row::new(
            Stage::Asking,
            ("slot", "inline length"),
            len,
            Closed("inline length"),
            move |rig| {
                let second = rig.memory_of_second_slot();
                rig.memory.store(second, 1);
                let slot = rig.ping();
                rig.put(Slot { len, ..slot });
            },
        ));
    }
    for count in [0, 129, u64::MAX] {
        rows.push(buffer(
            "messages of a batch",
            count,
            Closed("a batch of"),
            move |slot| Slot {
                kind: 6,
                correlation: count,
                ..slot.buffer(0, 0, 0, 64)
            },
        ));
    }
    rows.push(slot(
        "kind",
        "a batch in the slot",
        Closed("not in a buffer"),
        |slot| Slot {
            kind: 6,
            correlation: 1,
            ..slot
        },
    ));
    for (said, reason) in [
        (0, "not a valid archive"),
        (49, "does not lie in its batch"),
        (u64::from(u32::MAX), "does not lie in its batch"),
    ] {
        rows.push(Row::new(
            Stage::Asking,
            ("buffer", "length in a batch"),
            said,
            Closed(reason),
            move |rig| {
                rig.pool.store(0, said);
                rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
                let slot = rig.ping();
                rig.put(Slot {
                    kind: 6,
                    correlation: 2,
                    ..slot.buffer(0, 0, 0, 64)
                });
            },
        ));
    }
    for segment in [1024, 1 << 30, u32::MAX >> 1] {
        rows.push(buffer(
            "segment",
            segment,
            Closed("segment number"),
            move |slot| slot.buffer(segment, 0, 0, 8),
        ));
    }
    for offset in [1, 63, 4096, 1 << 40, u64::MAX, u64::MAX - 7, u64::MAX - 63] {
        rows.push(buffer("offset", offset, Closed("does not lie in"), move |slot| {
            slot.buffer(0, 0, offset, 8)
        }));
    }
    for len in [1 << 40, u64::MAX, u64::MAX - 4095] {
        rows.push(buffer("length", len, Closed("limit for messages"), move |slot| {
            slot.buffer(0, 0, 0, len)
        }));
    }
    rows
}

/// What a peer of another user is not permitted, and does all the same. The victim permits it to call `actor`, to
/// bind `wild` and `echo`, to publish `in.*` and to subscribe to `out`.
pub fn denied() -> Vec<Row> {
    let vault = |kind, len| {
        move |rig: &mut Rig| {
            let slot = rig.ping();
            rig.put(Slot {
                kind,
                len,
                mailbox: slot.mailbox + 1,
                ..slot
            });
        }
    };
    let closed = Closed("not permitted to call");
    let frame = |field, why: &'static str, packet: fn(&Rig) -> Vec<u8>| {
        Row::new(
            Stage::Session,
            ("frame", field),
            "not permitted",
            Harmless(why),
            move |rig| {
                rig.frame(&packet(rig));
            },
        )
    };
    vec![
        Row::new(Stage::Asking, ("slot", "mailbox"), "a tell", closed, vault(1, 8)),
        Row::new(Stage::Asking, ("slot", "mailbox"), "an ask", closed, vault(2, 8)),
        Row::new(
            Stage::Asking,
            ("slot", "mailbox"),
            "a tell without a message",
            closed,
            vault(1, 0),
        ),
        Row::new(
            Stage::Asking,
            ("slot", "mailbox"),
            "after one that is permitted",
            closed,
            move |rig| {
                let slot = rig.ping();
                rig.put(slot);
                vault(1, 8)(rig);
            },
        ),
        Row::new(Stage::Asking, ("slot", "mailbox"), "a buffer", closed, |rig| {
            rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
            let slot = rig.ping().buffer(0, 3, 0, 8);
            rig.put(Slot {
                mailbox: slot.mailbox + 1,
                ..slot
            });
        }),
        Row::new(Stage::Asking, ("slot", "mailbox"), "a batch", closed, |rig| {
            rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
            let slot = rig.ping().buffer(0, 3, 0, 64);
            rig.put(Slot {
                kind: 6,
                correlation: 1,
                mailbox: slot.mailbox + 1,
                ..slot
            });
        }),
        frame("Bound", "not taken note of", |rig| {
            peer::bound("actor", 1, 1, rig.kind())
        }),
        frame("Describe", "nothing is told", |_| peer::describe(3, "vault")),
        frame("Topic", "not taken note of", |rig| {
            peer::topic(1, "secret", rig.kind())
        }),
        frame("Subscribe", "gets nothing", |rig| {
            peer::subscribe(1, 1, "secret", rig.kind(), 0)
        }),
    ]
}

/// What is published on a link of ours reaches the victim's subscription.
fn attach(rig: &mut Rig) {
    let (port, mailbox, kind) = rig.subscription.clone().expect("a subscription");
    rig.frame(&peer::topic(6, "in.wild", &kind));
    rig.frame(&peer::attached(port, mailbox, 6, 7, 0));
    // It is read when this is answered.
    rig.is_served().expect("a session");
}

pub fn answers() -> Vec<Row> {
    let reply = |field, value, expect, change: fn(Slot) -> Slot| {
        Row::new(Stage::Asked, ("reply", field), value, expect, move |rig| {
            let slot = change(rig.reply());
            rig.put(slot);
        })
    };
    vec![
        reply("all", "honest", Harmless("taken"), |slot| slot),
        reply("kind", "tell", Closed("on the asking end"), |slot| Slot {
            kind: 1,
            ..slot
        }),
        reply("kind", "ask", Closed("on the asking end"), |slot| Slot {
            kind: 2,
            ..slot
        }),
        reply("kind", "publish", Closed("on the asking end"), |slot| Slot {
            kind: 5,
            ..slot
        }),
        reply("correlation", "0", Closed("correlation"), |slot| Slot {
            correlation: slot.correlation.wrapping_add(1 << 32),
            ..slot
        }),
        reply("correlation", "wild", Closed("correlation"), |slot| Slot {
            correlation: u64::MAX,
            ..slot
        }),
        reply("failure code", "wild", Harmless("an ask that failed"), |slot| {
            Slot {
                kind: 4,
                len: 0,
                mailbox: 999,
                ..slot
            }
        }),
        reply("archive", "too short", Closed("not a valid archive"), |slot| {
            Slot { len: 3, ..slot }
        }),
        reply(
            "inline length",
            "two slots, one written",
            Closed("sequence word"),
            |slot| Slot { len: 96, ..slot },
        ),
        reply(
            "segment",
            "not announced",
            Harmless("waits for its frame"),
            |slot| slot.buffer(3, 0, 0, 8),
        ),
        reply("segment", "beyond the last", Closed("segment number"), |slot| {
            slot.buffer(1 << 20, 0, 0, 8)
        }),
        Row::new(
            Stage::Asked,
            ("reply", "all"),
            "twice",
            Closed("correlation"),
            |rig| {
                let slot = rig.reply();
                rig.put(slot);
                rig.put(slot);
            },
        ),
        Row::new(
            Stage::Asked,
            ("reply", "offset"),
            "unaligned",
            Closed("does not lie in"),
            |rig| {
                rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
                let slot = rig.reply().buffer(0, 0, 8, 8);
                rig.put(slot);
            },
        ),
        Row::new(
            Stage::Answering,
            ("reply", "all"),
            "to nothing",
            Closed("correlation"),
            |rig| {
                let slot = rig.reply();
                rig.put(slot);
            },
        ),
    ]
}

pub fn words() -> Vec<Row> {
    // The victim has told one message, inline, by its route 0.
    let back = |field, value: &'static str, expect, entries: &'static [(u32, u8, Option<u16>)]| {
        Row::new(Stage::Answering, ("return", field), value, expect, move |rig| {
            for (entry, kind, lap) in entries {
                rig.give_back(*entry, *kind, *lap);
            }
        })
        .then("tell 40")
    };
    let word = |field, value: u64, expect, at: usize| {
        Row::new(
            Stage::Answering,
            ("word", field),
            format!("{value:#x}"),
            expect,
            move |rig| {
                rig.memory.store(at, value);
            },
        )
        .then("tell 40")
    };
    vec![
        back(
            "all",
            "honest",
            Harmless("the window opens"),
            &[(1 << 16, 2, None)],
        ),
        back("kind", "0", Closed("return of kind 0"), &[(0, 0, None)]),
        back("kind", "4", Closed("return of kind 4"), &[(0, 4, None)]),
        back("kind", "255", Closed("return of kind 255"), &[(0, 255, None)]),
        back("lap", "0", Harmless("not written yet"), &[(1 << 16, 2, Some(0))]),
        back("lap", "2", Closed("of lap 2"), &[(1 << 16, 2, Some(2))]),
        back(
            "lap",
            "65535",
            Closed("of lap 65535"),
            &[(1 << 16, 2, Some(u16::MAX))],
        ),
        back("token", "not held", Closed("return of token 0"), &[(0, 1, None)]),
        back("token", "wild", Closed("return of token"), &[(u32::MAX, 1, None)]),
        back(
            "token",
            "not held, refused",
            Closed("return of token"),
            &[(0, 3, None)],
        ),
        back("route", "unknown", Closed("for route 9"), &[(0x1_0009, 2, None)]),
        back("route", "wild", Closed("for route 65535"), &[(0x1_ffff, 2, None)]),
        back(
            "count",
            "more than held",
            Closed("a credit of 1000"),
            &[(1000 << 16, 2, None)],
        ),
        back(
            "count",
            "wild",
            Closed("a credit of 65535"),
            &[(0xffff_0000, 2, None)],
        ),
        back("count", "0", Closed("a credit of 0"), &[(0, 2, None)]),
        back(
            "all",
            "twice",
            Harmless("for others that it holds"),
            &[(1 << 16, 2, None), (1 << 16, 2, None)],
        ),
        word("head", 1, Harmless("as far as it says"), HEAD_AT),
        word("head", 100, Closed("position went from"), HEAD_AT),
        word("head", u64::MAX, Closed("position went from"), HEAD_AT),
        word("waiting", u64::MAX, Harmless("rung, once"), WAITING_AT),
        word("waiting", 1, Harmless("rung, once"), WAITING_AT),
        Row::new(
            Stage::Asking,
            ("word", "losses"),
            "wild, twice",
            Harmless("its own number"),
            |rig| {
                rig.memory.store(LOSSES_AT, u64::MAX);
                rig.memory.store(LOSSES_AT + 1, u64::MAX);
                let (port, mailbox, kind) = rig.subscription.clone().expect("a subscription");
                for topic in [0, 1] {
                    rig.frame(&peer::topic(topic, &format!("in.{topic}"), &kind));
                    rig.frame(&peer::attached(port, mailbox, topic, 7, topic));
                    rig.frame(&peer::attached(port, mailbox, topic, 7, topic));
                }
                rig.is_served().expect("a session");
            },
        )
        .then("lost"),
        Row::new(
            Stage::Asking,
            ("word", "header"),
            "changed afterwards",
            Harmless("read once"),
            |rig| {
                rig.memory.store(0, 0);
                rig.memory.store(1, u64::MAX);
            },
        ),
    ]
}

pub fn frames() -> Vec<Row> {
    let frame = |field, value: &'static str, expect, packets: fn(&Rig) -> Vec<Vec<u8>>| {
        Row::new(Stage::Session, ("frame", field), value, expect, move |rig| {
            for packet in packets(rig) {
                rig.frame(&packet);
            }
        })
    };
    let not_a_frame = Closed("not a valid frame");
    vec![
        frame("packet", "torn", not_a_frame, |_| vec![peer::bye()[..9].to_vec()]),
        frame("packet", "noise", not_a_frame, |_| vec![vec![0xa5; 300]]),
        frame("packet", "one byte", not_a_frame, |_| vec![vec![7]]),
        frame("packet", "empty", HungUp("an empty packet is a hang-up"), |_| {
            vec![vec![]]
        }),
        frame(
            "packet",
            "longer than allowed",
            Closed("longer than 64 KiB"),
            |_| vec![vec![1; 70_000]],
        ),
        frame("packet", "kind 200", not_a_frame, |_| {
            vec![patched(peer::unlink(9), 200)]
        }),
        frame("Names", "again", Harmless("nothing new"), |_| {
            vec![peer::names(false), peer::names(true)]
        }),
        frame("Bound", "twice", Harmless("the same name"), |rig| {
            vec![
                peer::bound("mine", 1, 1, rig.kind()),
                peer::bound("mine", 1, 1, rig.kind()),
            ]
        }),
        frame("Bound", "the victim's name", Harmless("told of both"), |rig| {
            vec![peer::bound("actor", 1, 1, rig.kind())]
        }),
        frame(
            "Bound",
            "a name that is none",
            Closed("actor name that is not valid"),
            |rig| {
                vec![renamed(
                    peer::bound("longer-than-8", 1, 1, rig.kind()),
                    b"longer-than-8",
                    b"longer than 8",
                )]
            },
        ),
        frame("Bound", "a name not in UTF-8", not_a_frame, |rig| {
            vec![renamed(
                peer::bound("longer-than-8", 1, 1, rig.kind()),
                b"longer-than-8",
                b"longer\xff\xfe\xfdan-8",
            )]
        }),
        frame("Unbound", "never bound", Harmless("nothing to forget"), |rig| {
            vec![
                peer::unbound("never", 1, 1),
                peer::unbound("actor", rig.port, rig.mailbox),
            ]
        }),
        frame("Describe", "again and again", Harmless("answered"), |_| {
            vec![peer::describe(1, "actor"); 50]
        }),
        frame("Described", "not asked", Harmless("not waited for"), |_| {
            vec![peer::described(3, None)]
        }),
        frame("LinkRefused", "not asked", Harmless("not waited for"), |_| {
            vec![peer::link_refused(5)]
        }),
        frame("Unlink", "never linked", Harmless("nothing to end"), |_| {
            vec![peer::unlink(u32::MAX)]
        }),
        frame("Topic", "twice", Harmless("the last one counts"), |rig| {
            vec![
                peer::topic(1, "in.a", rig.kind()),
                peer::topic(1, "in.b", rig.kind()),
            ]
        }),
        frame("Topic", "a name that is none", Closed("a Topic frame"), |rig| {
            vec![renamed(
                peer::topic(1, "in.longer-than-8", rig.kind()),
                b"in.longer",
                b"in..onger",
            )]
        }),
        frame("Untopic", "never published", Harmless("nothing to end"), |_| {
            vec![peer::untopic(9)]
        }),
        frame("Subscribe", "twice", Closed("a second subscription"), |rig| {
            vec![peer::subscribe(1, 1, "in.*", rig.kind(), 0); 2]
        }),
        frame(
            "Subscribe",
            "keeps more than allowed",
            Closed("has a length of"),
            |rig| {
                // Of the depth, 65,535, the two low bytes stand alone in the frame.
                let packet = peer::subscribe(1, 1, "in.*", rig.kind(), 65_534);
                vec![renamed(packet, &[0xfe, 0xff, 0, 0], &[0xfe, 0xff, 0xff, 0])]
            },
        ),
        frame(
            "Unsubscribe",
            "never subscribed",
            Harmless("nothing to end"),
            |_| vec![peer::unsubscribe(1, 1)],
        ),
        frame("Attached", "no such topic", Harmless("nothing to attach"), |_| {
            vec![peer::attached(0, 0, 1, 2, 3)]
        }),
        frame(
            "Attached",
            "a route that is none",
            Harmless("nothing to attach"),
            |_| vec![peer::attached(0, 0, 1, 7, u32::MAX)],
        ),
        frame("Heard", "never announced", Closed("acknowledgement"), |_| {
            vec![peer::heard_topic(999)]
        }),
        frame("Heard", "never subscribed", Closed("acknowledgement"), |_| {
            vec![peer::heard_subscription(999, 0)]
        }),
        Row::new(
            Stage::Session,
            ("frame", "Heard"),
            "twice",
            Closed("acknowledgement"),
            |rig| {
                let (topic, _) = rig.topic.clone().expect("a topic");
                rig.frame(&peer::heard_topic(topic));
                rig.frame(&peer::heard_topic(topic));
            },
        ),
        frame("Bye", "and goes on", HungUp("the peer ended it"), |_| {
            vec![peer::bye(), peer::bye()]
        }),
    ]
}

fn patched(mut packet: Vec<u8>, byte: u8) -> Vec<u8> {
    // The root of a frame's archive is at its end, and says in its first byte which frame it is.
    let root = packet.iter().rposition(|byte| *byte == 8).expect("an Unlink");
    packet[root] = byte;
    packet
}

/// A packet in which one text stands for another of its length.
fn renamed(mut packet: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = packet.windows(from.len()).position(|part| part == from);
    let at = at.expect("the text");
    packet[at..at + to.len()].copy_from_slice(to);
    packet
}

fn unsealed(bytes: u64) -> OwnedFd {
    let fd = memfd_create("wild", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&fd, bytes as i64).unwrap();
    fd
}

fn half_sealed(bytes: u64) -> OwnedFd {
    let fd = unsealed(bytes);
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    fd
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn file(bytes: u64) -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(bytes).unwrap();
    file.into()
}

fn pipe() -> OwnedFd {
    nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .unwrap()
        .1
}

pub fn descriptors() -> Vec<Row> {
    let bytes = peer::link_bytes(SLOTS, RETURNS);
    let offer = move |rig: &Rig| peer::link(7, rig.port, SLOTS, RETURNS, bytes);
    // A link of which one descriptor is another.
    let link = move |value: &'static str, expect, change: fn(&Rig) -> Vec<OwnedFd>| {
        Row::new(
            Stage::Session,
            ("descriptors", "Link"),
            value,
            expect,
            move |rig| {
                let fds = change(rig);
                rig.send_with(&offer(rig), &fds);
            },
        )
    };
    // A link whose frame says another thing.
    let sizes = move |value: &'static str, expect, (slots, returns, bytes): (u32, u32, u64)| {
        Row::new(Stage::Session, ("sizes", "Link"), value, expect, move |rig| {
            let packet = peer::link(7, rig.port, slots, returns, bytes);
            // With a header that says the same, where there is room for one.
            let memory = Memory::link(SLOTS, RETURNS);
            memory.store(1, u64::from(slots) | u64::from(returns) << 32);
            let [_, bell, eventfd] = rig.half();
            rig.send_with(&packet, &[memory.fd(), bell, eventfd]);
        })
    };
    let segment = |value: &'static str, expect, said: u64, make: fn() -> Vec<OwnedFd>| {
        Row::new(
            Stage::Session,
            ("descriptors", "Segment"),
            value,
            expect,
            move |rig| {
                let fds = make();
                rig.send_with(&peer::segment(0, said), &fds);
            },
        )
    };
    fn other(rig: &Rig, at: usize, fd: OwnedFd) -> Vec<OwnedFd> {
        let mut half: Vec<_> = rig.half().into();
        half[at] = fd;
        half
    }
    const LINK: u64 = peer_link_bytes();
    vec![
        link("honest", Harmless("linked"), |rig| rig.half().into()),
        link("none", Closed("with 0 descriptors"), |_| vec![]),
        link("two", Closed("with 2 descriptors"), |_| vec![null(), null()]),
        link("four", Closed("with 4 descriptors"), |_| {
            vec![null(), null(), null(), null()]
        }),
        link("five", Closed("more descriptors than allowed"), |_| {
            (0..5).map(|_| null()).collect()
        }),
        link("sixteen", Closed("more descriptors than allowed"), |_| {
            (0..16).map(|_| null()).collect()
        }),
        link("segment: a device", Closed("not a memfd"), |rig| {
            other(rig, 0, null())
        }),
        link("segment: a file", Closed("refused"), |rig| {
            other(rig, 0, file(LINK))
        }),
        link("segment: a pipe", Closed("not a memfd"), |rig| {
            other(rig, 0, pipe())
        }),
        link("segment: unsealed", Closed("not sealed"), |rig| {
            other(rig, 0, unsealed(LINK))
        }),
        link("segment: half sealed", Closed("not sealed"), |rig| {
            other(rig, 0, half_sealed(LINK))
        }),
        link("segment: too small", Closed("size is not"), |rig| {
            other(rig, 0, Memory::new(4096).fd())
        }),
        link("segment: no header", Closed("another layout"), |rig| {
            other(rig, 0, Memory::new(LINK as usize).fd())
        }),
        link("bell: too small", Closed("size is not"), |rig| {
            other(rig, 1, Memory::new(64).fd())
        }),
        link("bell: unsealed", Closed("not sealed"), |rig| {
            other(rig, 1, unsealed(4096))
        }),
        link("eventfd: a pipe", Closed("eventfd is refused"), |rig| {
            other(rig, 2, pipe())
        }),
        link("eventfd: a file", Closed("eventfd is refused"), |rig| {
            other(rig, 2, file(8))
        }),
        link("eventfd: a memfd", Closed("eventfd is refused"), |rig| {
            other(rig, 2, unsealed(8))
        }),
        link("eventfd: blocking", Closed("non-blocking"), |rig| {
            let flags = nix::sys::eventfd::EfdFlags::EFD_CLOEXEC;
            other(
                rig,
                2,
                nix::sys::eventfd::EventFd::from_flags(flags).unwrap().into(),
            )
        }),
        sizes("no slots", Closed("rings' sizes"), (0, RETURNS, bytes)),
        sizes("three slots", Closed("rings' sizes"), (3, RETURNS, bytes)),
        sizes(
            "slots of another size",
            Closed("rings' sizes"),
            (32, RETURNS, bytes),
        ),
        sizes(
            "2^30 slots",
            Closed("rings' sizes"),
            (1 << 30, RETURNS, peer::link_bytes(1 << 30, RETURNS)),
        ),
        sizes("no returns", Closed("rings' sizes"), (SLOTS, 0, bytes)),
        sizes(
            "four returns",
            Closed("rings' sizes"),
            (SLOTS, 4, peer::link_bytes(SLOTS, 4)),
        ),
        sizes("other bytes", Closed("rings' sizes"), (SLOTS, RETURNS, u64::MAX)),
        Row::new(
            Stage::Session,
            ("sizes", "Link"),
            "no such port",
            Harmless("refused, with a frame"),
            |rig| {
                let packet = peer::link(7, 4711, SLOTS, RETURNS, rig.memory.bytes());
                rig.send_with(&packet, &rig.half());
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "Linked"),
            "not asked",
            Harmless("closed again"),
            |rig| {
                let packet = peer::linked(7, 4711, SLOTS, RETURNS, rig.memory.bytes());
                rig.send_with(&packet, &rig.half());
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "Names"),
            "one",
            Closed("with 1 descriptors"),
            |rig| {
                rig.send_with(&peer::names(false), &[null()]);
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "no packet"),
            "one",
            Closed("with an empty packet"),
            |rig| {
                let fd = null();
                rig.connection.send(&[], &[fd.as_fd()]);
            },
        ),
        segment("honest", Harmless("mapped"), 4096, || {
            vec![Memory::new(4096).fd()]
        }),
        segment("none", Closed("with 0 descriptors"), 4096, Vec::new),
        segment("two", Closed("with 2 descriptors"), 4096, || vec![null(), null()]),
        segment("a device", Closed("not a memfd"), 4096, || vec![null()]),
        segment("a pipe", Closed("not a memfd"), 4096, || vec![pipe()]),
        segment("unsealed", Closed("not sealed"), 4096, || vec![unsealed(4096)]),
        segment("smaller than said", Closed("size is not"), 8192, || {
            vec![Memory::new(4096).fd()]
        }),
        segment("empty", Closed("size is not"), 0, || vec![unsealed_none()]),
        segment("2^45 bytes, sparse", Closed("address space"), 1 << 45, || {
            vec![sealed_sparse(1 << 45)]
        }),
        segment("2^64 - 1 bytes", Closed("address space"), u64::MAX, || {
            vec![Memory::new(4096).fd()]
        }),
        Row::new(
            Stage::Session,
            ("descriptors", "Segment"),
            "2^37 bytes, three times",
            Closed("address space"),
            |rig| {
                for id in 0..3 {
                    rig.send_with(&peer::segment(id, 1 << 37), &[sealed_sparse(1 << 37)]);
                }
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "Segment"),
            "the same twice",
            Closed("segment number"),
            |rig| {
                rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
                rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "Segment"),
            "number 2^20",
            Closed("segment number"),
            |rig| {
                rig.send_with(&peer::segment(1 << 20, 4096), &[rig.pool.fd()]);
            },
        ),
    ]
}

/// As `peer::link_bytes` says; a constant for those that are no closures.
const fn peer_link_bytes() -> u64 {
    8448 + 8 * RETURNS as u64 + 64 * SLOTS as u64
}

fn seal(fd: OwnedFd) -> OwnedFd {
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_FUTURE_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    fd
}

/// Sealed as it should be, and of no size.
fn unsealed_none() -> OwnedFd {
    seal(unsealed(0))
}

/// Sealed as it should be, and nothing in it.
fn sealed_sparse(bytes: u64) -> OwnedFd {
    seal(unsealed(bytes))
}
