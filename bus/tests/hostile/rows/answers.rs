//! Replies: each field of one, and replies that nobody waits for.

use shmbus::fuzz::peer;

use super::{
    Expect::{Closed, Harmless},
    Row,
};
use crate::peer::{Slot, Stage};

pub fn answers() -> Vec<Row> {
    let reply = |field, value, expect, change: fn(Slot) -> Slot| {
        Row::new(Stage::Asked, ("reply", field), value, expect, move |rig| {
            let slot = change(rig.reply());
            rig.put(slot);
        })
    };
    let mut rows = vec![
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
    ];
    rows.extend(batches());
    rows
}

/// Replies in a batch, of which the second says its length and its correlation.
fn batches() -> Vec<Row> {
    type Second = fn(u64) -> (u64, u64);
    let batch = |value, expect, count: u64, second: Second| {
        Row::new(Stage::Asked, ("reply", "batch"), value, expect, move |rig| {
            let (len, correlation) = second(rig.correlation);
            for (word, value) in [8, rig.correlation, 6, 0, len, correlation]
                .into_iter()
                .enumerate()
            {
                rig.pool.store(word, value);
            }
            rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
            let slot = rig.reply().buffer(0, 0, 0, 256);
            rig.put(Slot {
                kind: 8,
                correlation: count,
                ..slot
            });
        })
    };
    let mut rows = vec![
        batch("honest", Harmless("taken"), 1, |of| (8, of)),
        batch("the same twice", Closed("correlation"), 2, |of| (8, of)),
        batch("one for nobody", Closed("correlation"), 2, |of| {
            (8, of.wrapping_add(1))
        }),
        batch("one too long", Closed("does not lie in its batch"), 2, |of| {
            (250, of)
        }),
        batch("of 0", Closed("a batch of"), 0, |of| (8, of)),
        batch("of 129", Closed("a batch of"), 129, |of| (8, of)),
        batch("of wild length", Closed("does not lie in its batch"), 2, |of| {
            (u64::MAX, of)
        }),
        Row::new(
            Stage::Asked,
            ("reply", "batch"),
            "in the slot",
            Closed("not in a buffer"),
            |rig| {
                let slot = rig.reply();
                rig.put(Slot {
                    kind: 8,
                    correlation: 1,
                    ..slot
                });
            },
        ),
        Row::new(
            Stage::Asked,
            ("reply", "batch"),
            "not announced",
            Harmless("waits for its frame"),
            |rig| {
                let slot = rig.reply().buffer(3, 0, 0, 64);
                rig.put(Slot {
                    kind: 8,
                    correlation: 1,
                    ..slot
                });
            },
        ),
        Row::new(
            Stage::Asked,
            ("reply", "batch"),
            "of a reply for a buffer",
            Closed("97 bytes in a batch"),
            |rig| {
                rig.pool.store(0, 97);
                rig.pool.store(1, rig.correlation);
                rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
                let slot = rig.reply().buffer(0, 0, 0, 256);
                rig.put(Slot {
                    kind: 8,
                    correlation: 1,
                    ..slot
                });
            },
        ),
    ];
    rows.push(Row::new(
        Stage::Answering,
        ("reply", "batch"),
        "to nothing",
        Closed("correlation"),
        |rig| {
            rig.pool.store(0, 8);
            rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
            let slot = rig.reply().buffer(0, 0, 0, 256);
            rig.put(Slot {
                kind: 8,
                correlation: 1,
                ..slot
            });
        },
    ));
    rows
}
