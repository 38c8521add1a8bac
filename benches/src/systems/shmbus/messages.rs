//! The messages, each written anew before it is sent and read whole where it arrives.

use std::sync::LazyLock;

use shmbus::prelude::*;

use crate::payload;

/// Before the first message, and after the last.
#[derive(ShmMessage)]
pub(super) struct Mark {
    pub(super) end: bool,
}

/// A subscriber has seen this mark.
#[derive(ShmMessage)]
pub(super) struct Seen {
    pub(super) mark: u64,
}

/// A message of the measurement, made once and written anew for each time it is sent.
pub(super) trait Load: ShmMessage + Send + 'static {
    fn new(payload: usize) -> Self;
    fn write(&mut self, seq: u64);
    /// The sum of what is read, without reading it.
    fn expected(payload: usize, seq: u64) -> u64 {
        payload::expected(payload, seq)
    }
    /// Reads all of it.
    fn read(archived: &Self::Archived) -> u64;
}

/// One that says which it is.
pub(super) trait Numbered: Load {
    fn number(archived: &Self::Archived) -> u64;
}

/// One whose reply is made and read.
pub(super) trait Question: Load {
    fn reply(archived: &Self::Archived) -> Self::Reply;
    fn read_reply(reply: &Received<Self::Reply>) -> u64;
}

macro_rules! words {
    ($ask:ident, $answer:ident, $tell:ident, $words:literal) => {
        /// Answered by as much.
        #[derive(ShmMessage)]
        #[shm(reply = $answer)]
        pub(super) struct $ask {
            words: [u64; $words],
        }

        #[derive(ShmType)]
        pub(super) struct $answer {
            words: [u64; $words],
        }

        /// Not answered.
        #[derive(ShmMessage)]
        pub(super) struct $tell {
            words: [u64; $words],
        }

        impl Numbered for $tell {
            fn number(archived: &Self::Archived) -> u64 {
                archived.words[0].to_native()
            }
        }

        words!(@load $ask, $words);
        words!(@load $tell, $words);

        impl Question for $ask {
            fn reply(archived: &Self::Archived) -> $answer {
                $answer {
                    words: archived.words.each_ref().map(|word| word.to_native()),
                }
            }
            fn read_reply(reply: &Received<$answer>) -> u64 {
                payload::sum(reply.words.iter().map(|word| word.to_native()))
            }
        }
    };
    (@load $name:ident, $words:literal) => {
        impl Load for $name {
            fn new(_: usize) -> Self {
                Self { words: [0; $words] }
            }
            fn write(&mut self, seq: u64) {
                self.words = std::array::from_fn(|at| seq.wrapping_add(at as u64));
            }
            fn read(archived: &Self::Archived) -> u64 {
                payload::sum(archived.words.iter().map(|word| word.to_native()))
            }
        }
    };
}

// What fits into one slot of the queue, and what takes two.
words!(Ask32, Answer32, Tell32, 4);
words!(Ask64, Answer64, Tell64, 8);

/// Answered by as much.
#[derive(ShmMessage)]
#[shm(reply = Answer)]
pub(super) struct Ask {
    seq: u64,
    bytes: Vec<u8>,
}

#[derive(ShmType)]
pub(super) struct Answer {
    seq: u64,
    bytes: Vec<u8>,
}

/// Not answered.
#[derive(ShmMessage)]
pub(super) struct Tell {
    seq: u64,
    bytes: Vec<u8>,
}

macro_rules! bytes {
    ($name:ident) => {
        impl Load for $name {
            fn new(payload: usize) -> Self {
                Self {
                    seq: 0,
                    bytes: vec![0; payload],
                }
            }
            fn write(&mut self, seq: u64) {
                self.seq = seq;
                payload::write(&mut self.bytes, seq);
            }
            fn read(archived: &Self::Archived) -> u64 {
                payload::read(&archived.bytes)
            }
        }
    };
}

bytes!(Ask);
bytes!(Tell);

impl Numbered for Tell {
    fn number(archived: &Self::Archived) -> u64 {
        archived.seq.to_native()
    }
}

impl Question for Ask {
    fn reply(archived: &Self::Archived) -> Answer {
        Answer {
            seq: archived.seq.to_native(),
            bytes: archived.bytes.to_vec(),
        }
    }
    fn read_reply(reply: &Received<Answer>) -> u64 {
        payload::read(&reply.bytes)
    }
}

/// Written in the memory it is sent from, and answered by as much in the same way.
#[derive(ShmMessage)]
#[shm(reply = LoanAnswer)]
pub(super) struct LoanAsk {
    pub(super) seq: u64,
    pub(super) bytes: Bulk,
}

/// Written in the memory it is sent from.
#[derive(ShmMessage)]
pub(super) struct LoanAnswer {
    pub(super) seq: u64,
    pub(super) bytes: Bulk,
}

/// Written in the memory it is sent from.
#[derive(ShmMessage)]
pub(super) struct LoanTell {
    pub(super) seq: u64,
    pub(super) bytes: Bulk,
}

/// A text and a list, as messages of real programs have them.
#[derive(ShmMessage)]
pub(super) struct Mixed {
    id: u64,
    text: String,
    levels: Vec<u64>,
}

/// Texts of one letter each, of which a message's text is the beginning.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = |letter: u8| char::from(letter).to_string().repeat(Mixed::LONGEST);
    (b'a'..=b'z').map(text).collect()
});

impl Mixed {
    const LONGEST: usize = 1 << 20;

    /// Bytes of text and words of the list.
    fn parts(payload: usize) -> (usize, usize) {
        let text = (payload / 5).min(Self::LONGEST);
        (text, payload.saturating_sub(text + 8) / 8)
    }

    fn letter(seq: u64) -> usize {
        (seq % 26) as usize
    }
}

impl Load for Mixed {
    fn new(payload: usize) -> Self {
        let (text, levels) = Self::parts(payload);
        Self {
            id: 0,
            text: TEXTS[0][..text].into(),
            levels: vec![0; levels],
        }
    }
    fn write(&mut self, seq: u64) {
        self.id = seq;
        let len = self.text.len();
        self.text.clear();
        self.text.push_str(&TEXTS[Self::letter(seq)][..len]);
        for (level, more) in self.levels.iter_mut().zip(0..) {
            *level = seq.wrapping_add(more);
        }
    }
    fn expected(payload: usize, seq: u64) -> u64 {
        let (text, levels) = Self::parts(payload);
        let letter = u64::from(b'a') + Self::letter(seq) as u64;
        payload::expected(levels * 8, seq)
            .wrapping_add(text as u64 * letter)
            .wrapping_add(seq)
    }
    fn read(archived: &Self::Archived) -> u64 {
        let text = payload::sum(archived.text.as_bytes().iter().map(|byte| u64::from(*byte)));
        payload::sum(archived.levels.iter().map(|level| level.to_native()))
            .wrapping_add(text)
            .wrapping_add(archived.id.to_native())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_message_has_the_sum_that_is_expected_and_about_its_length() {
        for payload in [8, 64, 300, 4096] {
            let mut message = Mixed::new(payload);
            for seq in [0, 1, 25, 26, 1000] {
                message.write(seq);
                let sum = payload::sum(message.text.bytes().map(u64::from))
                    .wrapping_add(payload::sum(message.levels.iter().copied()))
                    .wrapping_add(message.id);
                assert_eq!(
                    sum,
                    Mixed::expected(payload, seq),
                    "{payload} bytes, number {seq}"
                );
            }
            let len = 8 + message.text.len() + 8 * message.levels.len();
            assert!(len.abs_diff(payload) < 16, "{len} for {payload}");
        }
    }
}
