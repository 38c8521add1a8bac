use std::io::Write;

use super::*;

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn blocks_of_a_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"abcdefghij").unwrap();
    let cases = [
        (10, vec!["abcd", "efgh", "ij"]),
        (8, vec!["abcd", "efgh"]),
        (0, vec![]),
    ];
    for (bytes, expected) in cases {
        let mut blocks = Blocks::open(file.path(), bytes, 4).unwrap();
        let mut seen = Vec::new();
        while let Some(len) = blocks.next_len() {
            let mut data = vec![0; len];
            blocks.read(&mut data).unwrap();
            seen.push(String::from_utf8(data).unwrap());
        }
        assert_eq!(seen, expected, "{bytes}");
    }
}

#[test]
fn a_file_that_has_become_shorter_is_an_error() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"abc").unwrap();
    let mut blocks = Blocks::open(file.path(), 4, 4).unwrap();
    assert_eq!(blocks.next_len(), Some(4));
    assert!(blocks.read(&mut [0; 4]).is_err());
}

#[test]
fn a_known_hash() {
    // The test vector of FIPS 180-2.
    assert_eq!(
        hex(&hash(b"abc")),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn a_total_depends_on_every_block_and_their_order() {
    let total = |blocks: &[&[u8]]| {
        let mut total = Total::default();
        for block in blocks {
            total.add(block.len() as u64, &hash(block));
        }
        total.finish()
    };
    let whole = total(&[b"one", b"two", b"three"]);
    assert_eq!(whole.0, 11);
    assert_eq!(whole, total(&[b"one", b"two", b"three"]));
    assert_ne!(whole, total(&[b"two", b"one", b"three"]));
    assert_ne!(whole, total(&[b"one", b"three"]));
    assert_ne!(whole, total(&[b"one", b"two", b"two", b"three"]));
}
