//! Packets of the control socket: those that are no frames, and each frame where it does not belong.

use shmbus::fuzz::peer;

use super::{
    Expect::{Closed, Harmless, HungUp},
    Row,
};
use crate::peer::{Rig, Stage};

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
            Closed("Bound frame with a name that is not valid"),
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
