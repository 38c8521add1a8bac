//! Writing and reading every byte of a payload, as fast as memory allows.
//!
//! A payload is filled with 64-bit words that count up from its sequence number, then with single bytes to
//! its end. Its sum is known without reading it, so a sender need not.

/// Writes the payload of this sequence number.
pub fn write(bytes: &mut [u8], seq: u64) {
    let mut words = bytes.chunks_exact_mut(8);
    for (word, more) in words.by_ref().zip(0..) {
        word.copy_from_slice(&seq.wrapping_add(more).to_ne_bytes());
    }
    words.into_remainder().fill(seq as u8);
}

/// Reads a payload: the sum of all it holds.
#[must_use]
pub fn read(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let tail = sum(words.remainder().iter().map(|byte| u64::from(*byte)));
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("chunks of 8"));
    sum(words.map(word)).wrapping_add(tail)
}

/// What [`read`] finds in `len` bytes that [`write()`] wrote.
#[must_use]
pub fn expected(len: usize, seq: u64) -> u64 {
    let (words, tail) = ((len / 8) as u64, (len % 8) as u64);
    let counted = words * words.saturating_sub(1) / 2;
    seq.wrapping_mul(words)
        .wrapping_add(counted)
        .wrapping_add(tail * (seq & 0xff))
}

/// The sum, wrapping.
pub fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_is_read() {
        for len in [8, 9, 63, 64, 300, 4096] {
            for seq in [0, 1, 255, 256, u64::MAX - 3] {
                let mut bytes = vec![0xa5; len];
                write(&mut bytes, seq);
                assert_eq!(read(&bytes), expected(len, seq), "{len} bytes, number {seq}");
            }
        }
    }

    #[test]
    fn a_changed_byte_changes_the_sum() {
        let mut bytes = vec![0; 300];
        write(&mut bytes, 7);
        for at in [0, 150, 299] {
            bytes[at] ^= 1;
            assert_ne!(read(&bytes), expected(300, 7), "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
