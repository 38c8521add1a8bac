//! The corpus, by the code that writes what honest peers say.

use super::{
    frames::{LINK, SEGMENT},
    input::Output,
    types::{Fixed, Nested, Picture, Shape, Texts, Tree},
    world::{ACTOR, PATTERN, TOPIC},
};
use crate::{
    message::{Bulk, ShmRoot, archive_into, schema::Schema},
    session::{
        frame::{Announcement, Binding, Frame, KindInfo, SubscriptionInfo, TopicInfo},
        hello::{ABI, Code, Hello, PROTOCOL, Role, Verdict},
        mailbox::Kind,
        schemas,
    },
    shm::layout::link_bytes,
};

/// One file of the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The target it is for.
    pub target: &'static str,
    /// Its file's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// All of them, always the same.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let groups = [
        ("frames", frames()),
        ("handshake", handshakes()),
        ("schemas", schema_pairs()),
        ("archives", archives()),
        ("segment", segments()),
    ];
    let named = groups.into_iter().flat_map(|(target, seeds)| {
        seeds.into_iter().map(move |(name, bytes)| Seed {
            target,
            name: name.to_owned(),
            bytes,
        })
    });
    named.collect()
}

type Named = Vec<(&'static str, Vec<u8>)>;

fn kind() -> KindInfo {
    KindInfo {
        name: "seed::Kind".to_owned(),
        schema: 1,
        reply: 2,
    }
}

fn binding(name: &str) -> Binding {
    Binding {
        name: name.to_owned(),
        port: 3,
        mailbox: 4,
        window: 16,
        kinds: vec![kind(), kind()],
    }
}

fn subscription(pattern: &str, kind: KindInfo, keep: u32, group: Option<&str>) -> Frame {
    Frame::Subscribe(SubscriptionInfo {
        port: 3,
        mailbox: 5 + keep,
        pattern: pattern.to_owned(),
        kind,
        depth: 16,
        wait: keep == 0,
        keep,
        group: group.map(str::to_owned),
    })
}

fn topic(name: &str, kind: KindInfo) -> Frame {
    Frame::Topic(TopicInfo {
        id: 6,
        name: name.to_owned(),
        kind,
    })
}

fn link(ring_slots: u32, returns: u32) -> Frame {
    Frame::Link {
        link: 7,
        from_port: 0,
        to_port: 0,
        ring_slots,
        returns,
        bytes: link_bytes(ring_slots, returns) as u64,
    }
}

fn linked() -> Frame {
    Frame::Linked {
        link: 7,
        peer_link: 0,
        ring_slots: 16,
        returns: 32,
        bytes: link_bytes(16, 32) as u64,
    }
}

fn packets(frames: &[(u8, Frame)]) -> Vec<u8> {
    let packet = |out: Output, (brought, frame): &(u8, Frame)| {
        out.byte(*brought).packet(&frame.encode().expect("a frame"))
    };
    frames.iter().fold(Output::default(), packet).0
}

fn frames() -> Named {
    let names = Frame::Names {
        bound: vec![binding("one"), binding("two")],
        more: false,
    };
    let unbound = Frame::Unbound {
        name: "one".to_owned(),
        port: 3,
        mailbox: 4,
    };
    let describe = |name: &str| Frame::Describe {
        request: 1,
        name: name.to_owned(),
        kind: Kind::of::<Fixed>().name.to_owned(),
    };
    let described = Frame::Described {
        request: 0,
        schema: schemas::encode(&Schema::of::<Fixed>()),
        reply: None,
    };
    let attached = Frame::Attached {
        port: 0,
        mailbox: 1,
        topic: 6,
        link: 7,
        route: 0,
    };
    let wanted = Kind::of::<Nested>().info();
    let own = Kind::of::<Fixed>().info();
    let end = || Frame::Unsubscribe { port: 3, mailbox: 5 };
    vec![
        (
            "names",
            packets(&[(0, names), (0, Frame::Bound(binding("three"))), (0, unbound)]),
        ),
        (
            "describe",
            packets(&[(0, describe(ACTOR)), (0, describe(TOPIC)), (0, described)]),
        ),
        (
            "link",
            packets(&[(LINK, link(16, 32)), (0, Frame::Unlink { link: 7 })]),
        ),
        ("link-of-few-returns", packets(&[(LINK, link(16, 4))])),
        (
            "linked",
            packets(&[(LINK, linked()), (0, Frame::link_refused(0, "no"))]),
        ),
        (
            "segments",
            packets(&[
                (SEGMENT, Frame::Segment { id: 0, bytes: 4096 }),
                (
                    SEGMENT,
                    Frame::Segment {
                        id: 1 << 31,
                        bytes: 4096,
                    },
                ),
                (SEGMENT, Frame::Segment { id: 1, bytes: 8192 }),
            ]),
        ),
        (
            "topic",
            packets(&[
                (0, topic("fuzz.in.a", wanted.clone())),
                (LINK, link(16, 32)),
                (0, attached),
                (0, Frame::Untopic { id: 6 }),
            ]),
        ),
        (
            "topic-of-another-type",
            packets(&[(0, topic("fuzz.in.a", kind()))]),
        ),
        (
            "subscription",
            packets(&[
                (0, subscription(TOPIC, own.clone(), 0, None)),
                (LINK, linked()),
                (0, end()),
            ]),
        ),
        (
            "subscriptions",
            packets(&[
                (0, subscription(TOPIC, own.clone(), 0, Some("group"))),
                (0, subscription(TOPIC, own, 4, None)),
                (0, subscription(PATTERN, wanted, 1, None)),
                (0, end()),
            ]),
        ),
        (
            "heard",
            packets(&[
                (0, Frame::Heard(Announcement::Topic { id: 0 })),
                (
                    0,
                    Frame::Heard(Announcement::Subscription { port: 0, mailbox: 0 }),
                ),
            ]),
        ),
        ("bye", packets(&[(0, Frame::bye("done"))])),
    ]
}

fn hello(role: Role) -> Vec<u8> {
    let hello = Hello {
        protocol: PROTOCOL,
        features: 0,
        abi: ABI,
        id: 9,
        pid: 1,
        role,
        bus: "default".to_owned(),
        node: "peer".to_owned(),
    };
    hello.encode()
}

fn handshakes() -> Named {
    let (dial, accept) = (hello(Role::Dial), hello(Role::Accept));
    let (welcome, no) = (
        Verdict::Welcome.encode(),
        Verdict::refuse(Code::Full, "no room").encode(),
    );
    let said = |we: u8, packets: &[&[u8]]| {
        let packet = |out: Output, bytes: &&[u8]| out.packet(bytes);
        packets.iter().fold(Output::default().byte(we), packet).0
    };
    vec![
        ("accept", said(0, &[&dial, &welcome])),
        ("accept-refused", said(0, &[&dial, &no])),
        ("accept-out-of-turn", said(0, &[&accept, &welcome])),
        ("accept-half", said(0, &[&dial])),
        ("dial", said(1, &[&accept, &welcome])),
        ("dial-refused-unheard", said(1, &[&no])),
        ("dial-torn", said(1, &[&accept[..20], &welcome])),
    ]
}

fn schema_pairs() -> Named {
    let of = |schema: Schema| schemas::encode(&schema).expect("a schema");
    let pair = |a: &[u8], b: &[u8]| Output::default().packet(a).bytes(b).0;
    let (fixed, nested) = (of(Schema::of::<Fixed>()), of(Schema::of::<Nested>()));
    let (tree, picture) = (of(Schema::of::<Tree>()), of(Schema::of::<Picture>()));
    vec![
        ("fixed", pair(&fixed, &nested)),
        ("tree", pair(&tree, &tree)),
        ("picture", pair(&picture, &of(Schema::of::<Texts>()))),
    ]
}

fn archive<T: ShmRoot>(value: &T) -> Vec<u8> {
    let mut bytes = rkyv::util::AlignedVec::<16>::new();
    bytes.resize(4096, 0);
    let len = archive_into(value, &mut bytes).expect("an archive");
    bytes[..len].to_vec()
}

fn fixed() -> Fixed {
    Fixed {
        small: 1,
        wide: 2,
        list: [3, 4, 5],
        truth: true,
        letter: 'x',
        maybe: Some(-6),
    }
}

fn texts() -> Texts {
    Texts {
        one: "a text that lies out of line".to_owned(),
        many: vec!["short".to_owned(), "and one that is not short".to_owned()],
        maybe: Some("boxed".into()),
        bytes: vec![7; 9],
    }
}

fn nested() -> Nested {
    let named = Shape::Named {
        name: "a name of some length".to_owned(),
        corners: vec![(1, -1), (2, -2)],
    };
    Nested {
        shapes: vec![Shape::Point, Shape::Circle(1, 2.5), named],
        by_name: [("only".to_owned(), 1)].into(),
        by_number: (0..3).map(|n| (n, vec![n as u8; 3])).collect(),
        outcome: Err("a reason".to_owned()),
    }
}

fn tree() -> Tree {
    let leaf = || Tree {
        name: "leaf".to_owned(),
        children: vec![],
    };
    let branch = Tree {
        name: "branch".to_owned(),
        children: vec![leaf(), leaf()],
    };
    Tree {
        name: "root".to_owned(),
        children: vec![branch],
    }
}

fn picture() -> Picture {
    Picture {
        number: 1,
        data: Bulk::from(vec![9; 100]),
        camera: "the one in front".to_owned(),
    }
}

fn archives() -> Named {
    let in_buffer = |which: u8, bytes: &[u8]| {
        let head = Output::default()
            .byte(which)
            .byte(0)
            .u16(0)
            .u16(bytes.len() as u16);
        head.byte(0).u32(0).bytes(bytes).0
    };
    let inline = |which: u8, bytes: &[u8]| {
        let head = Output::default()
            .byte(which | 0x80)
            .byte(0)
            .u16(0)
            .u16(bytes.len() as u16);
        head.byte(0).u32(0).bytes(bytes).0
    };
    vec![
        ("fixed", in_buffer(0, &archive(&fixed()))),
        ("fixed-inline", inline(0, &archive(&fixed()))),
        ("texts", in_buffer(1, &archive(&texts()))),
        ("nested", in_buffer(2, &archive(&nested()))),
        ("tree", in_buffer(3, &archive(&tree()))),
        ("picture", in_buffer(4, &archive(&picture()))),
        ("any", in_buffer(0x40, &archive(&tree()))),
        ("nothing", in_buffer(5, &[])),
    ]
}

fn segments() -> Named {
    let begin = |sizes: u8| Output::default().byte(sizes);
    let inline = |out: Output, what: u8, bytes: &[u8]| {
        out.byte(3).byte(what).byte(bytes.len() as u8).u64(1).bytes(bytes)
    };
    let fixed = archive(&fixed());
    let texts = archive(&texts());
    let in_pool = |out: Output, bytes: &[u8]| out.byte(10).byte(0).byte(11).byte(0).packet(bytes);
    let buffer =
        |out: Output, what: u8, len: usize| out.byte(4).byte(what).u64(1).u32(0).u16(0).u16(len as u16);
    let take = |out: Output, how: u8| out.byte(12).byte(how);
    // The same twice.
    let batch = |one: &[u8]| {
        let head = |out: Output| out.u32(one.len() as u32).u32(0).u64(1);
        let padding = vec![0; one.len().next_multiple_of(16) - one.len()];
        head(head(Output::default()).bytes(one).bytes(&padding))
            .bytes(one)
            .0
    };
    let request = |out: Output, what: u8| out.byte(13).byte(what);
    vec![
        ("tell", take(inline(begin(HONEST), 0, &fixed), 16).0),
        ("ask", take(inline(begin(HONEST), 1, &fixed), 16).0),
        (
            "tell-in-a-buffer",
            take(buffer(in_pool(begin(HONEST), &texts), 4, texts.len()), 16).0,
        ),
        ("segment-to-come", {
            let out = buffer(begin(HONEST), 4, texts.len());
            take(in_pool(out, &texts), 16).0
        }),
        ("asks-together", {
            let batch = batch(&fixed);
            let out = in_pool(begin(HONEST), &batch).byte(4).byte(1 | 8).u64(2);
            let out = out.u32(0).u16(0).u16(batch.len() as u16);
            take(take(out, 16), 16).0
        }),
        ("publish", take(inline(begin(HONEST), 2, &[0; 16]), 17).0),
        (
            "large-segment",
            buffer(begin(HONEST).byte(10).byte(0x80), 0x80, 64).0,
        ),
        (
            "credits",
            request(begin(HONEST), 0).byte(6).u32(1 << 16).byte(2).byte(14).0,
        ),
        (
            "tokens",
            request(begin(HONEST), 8).byte(6).u32(0).byte(1).byte(14).0,
        ),
        (
            "nack",
            request(begin(HONEST), 8).byte(6).u32(0).byte(3).byte(14).0,
        ),
        (
            "credits-of-nothing",
            request(begin(HONEST), 0).byte(6).u32(0).byte(2).byte(14).0,
        ),
        ("head", request(begin(HONEST), 0).byte(7).byte(1).byte(14).0),
        (
            "losses",
            begin(HONEST)
                .byte(9)
                .byte(0)
                .u64(u64::MAX)
                .byte(9)
                .byte(1)
                .u64(u64::MAX)
                .0,
        ),
        ("reply", {
            let out = request(begin(HONEST | 0x40), 4)
                .byte(5)
                .byte(0)
                .byte(0)
                .packet(&[0; 8]);
            out.byte(15).0
        }),
        (
            "fail",
            request(begin(HONEST | 0x40), 4)
                .byte(5)
                .byte(1)
                .byte(1)
                .packet(&[])
                .byte(15)
                .0,
        ),
        ("reply-in-a-buffer", {
            let out = request(in_pool(begin(HONEST | 0x40), &archive(&nested())), 4);
            out.byte(5)
                .byte(2)
                .byte(0)
                .u32(0)
                .u16(0)
                .u16(archive(&nested()).len() as u16)
                .byte(15)
                .0
        }),
        ("replies-together", {
            let batch = batch(&[0; 8]);
            let out = request(in_pool(begin(HONEST | 0x40), &batch), 4);
            let out = out.byte(5).byte(3).byte(1).u32(0).u16(0);
            out.u16(batch.len() as u16).byte(15).0
        }),
        ("few-returns", begin(3 | 2 << 2).byte(14).0),
        (
            "sizes",
            begin(HONEST | 0x80).byte(1).u64(16 | 4 << 32).u32(16).u32(4).0,
        ),
    ]
}

/// A peer with 16 slots and 64 returns that speaks the truth about them, and asks.
const HONEST: u8 = 3 | 6 << 2;
