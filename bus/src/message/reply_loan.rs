//! Replies whose payload is produced in the memory they are sent in.

use std::{
    alloc::Layout,
    fmt,
    ops::{Deref, DerefMut},
};

use super::{
    bulk::{Bulk, Memory},
    received::Received,
    traits::ShmMessage,
};

impl<M: ShmMessage> Received<M> {
    /// Memory for the payload of the reply to this message, `len` bytes, to be written where the asker will read it.
    ///
    /// It never fails: where there is no shared memory now (the pool is at its limit, the asker is gone, the message was
    /// made by [`Received::local`]), the loan lies on the heap, and is copied once when the reply is sent. So does one that is
    /// longer than [`Config::message_bytes`](crate::Config::message_bytes), whose reply then fails: a length that the asker
    /// says is better compared with a limit of one's own first. See [`ReplyLoan`].
    pub fn reply_loan(&self, len: usize) -> ReplyLoan {
        let root = Layout::new::<<M::Reply as rkyv::Archive>::Archived>();
        ReplyLoan(match self.lend(len, root) {
            Some(buffer) => Payload::Shared(Memory::new(buffer, len)),
            None => Payload::Heap(vec![0; len]),
        })
    }
}

/// Memory for the payload of one reply, on loan from the pool for whoever asked.
///
/// It derefs to `&mut [u8]`: exactly the bytes asked for. Fill it, make it the [`Bulk`] of the reply by `into`, and return
/// that: nothing is copied. It can be kept across awaits and sent to other threads like any value. Dropped, or as part of
/// a reply that is dropped, it goes back to the pool.
///
/// What the memory holds at first is **unspecified**: zeros, or what earlier messages of this process to nodes of the same
/// user left there. All of it is sent.
///
/// In the reply to an asker of another user than the one it was lent for, and in what is sent by
/// [`Address::tell`](crate::Address::tell) and the like, it is copied, as owned bytes are. So it is where the rest of the reply
/// takes more than 256 bytes of text and lists beyond its fixed part. [`Stats::loans_copied`](crate::Stats::loans_copied) counts
/// the replies among these.
///
/// ```
/// use actix::prelude::*;
/// use shmbus::prelude::*;
///
/// #[derive(ShmMessage)]
/// #[shm(reply = Tile)]
/// pub struct Render {
///     pub shade: u8,
/// }
///
/// /// A reply with a `Bulk` is derived as a message is.
/// #[derive(ShmMessage)]
/// pub struct Tile {
///     pub width: u32,
///     pub pixels: Bulk,
/// }
///
/// struct Renderer;
///
/// impl Actor for Renderer {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Received<Render>> for Renderer {
///     type Result = MessageResult<Received<Render>>;
///
///     fn handle(&mut self, render: Received<Render>, _: &mut Context<Self>) -> Self::Result {
///         let mut pixels = render.reply_loan(64 * 64);
///         pixels.fill(render.shade);
///         MessageResult(Tile { width: 64, pixels: pixels.into() })
///     }
/// }
/// # let mut pixels = Received::local(&Render { shade: 7 }).reply_loan(3);
/// # pixels.fill(7);
/// # assert_eq!(Bulk::from(pixels), vec![7; 3].into());
/// # let tile = Tile { width: 1, pixels: vec![].into() };
/// # let _ = tile.width;
/// ```
#[must_use = "a loan that is in no reply is not sent"]
pub struct ReplyLoan(Payload);

enum Payload {
    Shared(Memory),
    Heap(Vec<u8>),
}

impl Deref for ReplyLoan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Payload::Shared(memory) => memory.payload(),
            Payload::Heap(bytes) => bytes,
        }
    }
}

impl DerefMut for ReplyLoan {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Payload::Shared(memory) => memory.payload_mut(),
            Payload::Heap(bytes) => bytes,
        }
    }
}

impl From<ReplyLoan> for Bulk {
    fn from(loan: ReplyLoan) -> Bulk {
        match loan.0 {
            Payload::Shared(memory) => Bulk::shared(memory),
            Payload::Heap(bytes) => bytes.into(),
        }
    }
}

/// Its length and where it lies: a payload is too long to be printed.
impl fmt::Debug for ReplyLoan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = matches!(self.0, Payload::Shared(_));
        f.debug_struct("ReplyLoan")
            .field("bytes", &self.len())
            .field("shared", &shared)
            .finish()
    }
}
