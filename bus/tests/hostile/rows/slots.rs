//! Slots: each field of one, inline, in a buffer and in a batch.

use shmbus::fuzz::peer;

use super::{
    Expect::{self, Closed, Harmless},
    Row,
};
use crate::peer::{Rig, Slot, Stage};

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

/// What is published on a link of ours reaches the victim's subscription.
fn attach(rig: &mut Rig) {
    let (port, mailbox, kind) = rig.subscription.clone().expect("a subscription");
    rig.frame(&peer::topic(6, "in.wild", &kind));
    rig.frame(&peer::attached(port, mailbox, 6, 7, 0));
    // It is read when this is answered.
    rig.is_served().expect("a session");
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
        slot("kind", "replies", Closed("on the answering end"), |slot| Slot {
            kind: 8,
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
    for kind in [0, 9, 255] {
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
    rows.extend(batches(6, "tells"));
    rows.extend(batches(7, "asks"));
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

/// A peer that asks twice, and keeps to all rules; the victim takes a first buffer for the replies.
pub fn honest() -> Row {
    batch(7, "asks", "honest", Harmless("handled, and answered"), (8, 2))
}

/// A batch of this kind, of which the first message is said to have so many bytes, and all of it so many messages; it has two
/// of eight bytes.
fn batch(kind: u8, of: &'static str, value: impl ToString, expect: Expect, said: (u64, u64)) -> Row {
    Row::new(Stage::Asking, ("batch", of), value, expect, move |rig| {
        let (len, count) = said;
        rig.pool.store(0, len);
        rig.pool.store(1, u64::MAX);
        rig.pool.store(4, 8);
        rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
        let slot = rig.ping();
        rig.put(Slot {
            kind,
            correlation: count,
            ..slot.buffer(0, 0, 0, 56)
        });
    })
}

/// Batches of this kind.
fn batches(kind: u8, of: &'static str) -> Vec<Row> {
    let batch = |value: String, expect, said, count| batch(kind, of, value, expect, (said, count));
    let mut rows = vec![
        batch("honest".into(), Harmless("handled, and answered"), 8, 2),
        batch(
            "of more than it has".into(),
            Closed("does not lie in its batch"),
            8,
            3,
        ),
        slot(
            "kind",
            format!("a batch of {of} in the slot"),
            Closed("not in a buffer"),
            move |slot| Slot {
                kind,
                correlation: 1,
                ..slot
            },
        ),
    ];
    for count in [0, 129, u64::MAX] {
        rows.push(batch(format!("{count} messages"), Closed("a batch of"), 8, count));
    }
    for (said, reason) in [
        (0, "not a valid archive"),
        (49, "does not lie in its batch"),
        (u64::from(u32::MAX), "does not lie in its batch"),
    ] {
        rows.push(batch(format!("{said} bytes long"), Closed(reason), said, 2));
    }
    rows
}
