//! Descriptors, and the archives that they name.

use std::sync::{Arc, LazyLock, Mutex};

use super::{
    input::Input,
    types::{TYPES, open_any},
};
use crate::shm::{
    bell::Bell,
    cells::Cells,
    descriptor::{BufferRef, Descriptor, SlotKind},
    doorbell::Ringer,
    inbound::Inbound,
    layout::INLINE_BYTES,
    memory::PeerMemory,
    returns::ReturnWriter,
    room::Room,
    segment::{LinkParts, Mapping, Segment, create_bell, words},
    sync::{AtomicU64, Ordering, lock},
};

/// Bytes of the foreign segment.
const BYTES: usize = 16 << 10;
/// Largest message.
const LIMIT: usize = 8 << 10;

struct Foreign {
    words: Cells<AtomicU64>,
    /// How many words the last input has written.
    written: usize,
    inbound: Arc<Inbound>,
}

static FOREIGN: LazyLock<Mutex<Foreign>> = LazyLock::new(|| Mutex::new(Foreign::new()));

impl Foreign {
    fn new() -> Self {
        let segment = Segment::create("fuzz", BYTES).expect("a segment");
        let fd = segment.fd().try_clone_to_owned().expect("a descriptor");
        let memory = PeerMemory::new(1, false);
        let mapping = Mapping::import(&fd, BYTES as u64).expect("a mapping");
        memory.add(0, mapping).expect("room");
        let (_, own) = LinkParts::create(16, 32).expect("a segment");
        let (_, waiting) = create_bell().expect("a segment");
        let inbound = Inbound::new(
            ReturnWriter::new(own.returns),
            memory,
            Ringer::new(waiting),
            Bell::new().expect("an eventfd"),
            LIMIT,
            Arc::new(Room::new(16)),
            |_| {},
        );
        Self {
            words: words(&segment),
            written: 0,
            inbound,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks(8).map(|chunk| Input(chunk).u64());
        let count = bytes.len().div_ceil(8).min(BYTES / 8);
        for word in &self.words[..count.max(self.written)] {
            // Relaxed: one thread.
            word.store(words.next().unwrap_or(0), Ordering::Relaxed);
        }
        self.written = count;
    }
}

/// The type, in its high bit whether the payload is inline, then what the descriptor says of it, then the bytes.
pub fn archives(data: &[u8]) {
    let mut input = Input(data);
    let (which, kind) = (input.byte(), input.byte());
    let (offset, len) = (input.u16(), input.u16());
    let (segment, token) = (input.byte(), input.u32());
    let mut foreign = lock(&FOREIGN);
    let kind = if kind & 1 == 0 {
        SlotKind::Tell
    } else {
        SlotKind::Publish
    };
    let mut descriptor = Descriptor::new(kind, 0, 0, 0, 0);
    if which & 0x80 == 0 {
        foreign.write(input.0);
        descriptor.set_buffer(BufferRef {
            segment: segment.into(),
            token,
            offset: offset.into(),
            len: len.into(),
        });
    } else {
        let bytes = input.take(INLINE_BYTES);
        descriptor.inline_mut()[..bytes.len()].copy_from_slice(bytes);
        // Whatever is claimed.
        descriptor.head.0[0] |= (u64::from(len) & 0xff) << 48;
    }
    let _ = foreign.inbound.has_memory_of(&descriptor);
    let _ = foreign.inbound.prefetch(&descriptor);
    for type_of in (0..TYPES).filter(|type_of| which & 0x40 != 0 || *type_of == which % TYPES) {
        open_any(type_of, foreign.inbound.clone(), &descriptor);
    }
}
