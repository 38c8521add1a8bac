//! The fuzz targets without a fuzzer: their seeds, and so many mutations of them, always the same.
//!
//! `fuzz/seeds` holds what `shmbus::fuzz::seeds` makes, and what a fuzzer has found; `SEEDS=write` in the environment
//! writes the former anew. `CASES` says how many mutations of each target are tried.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proptest::{
    collection,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use shmbus::fuzz::{Seed, TARGETS, seeds};

/// Most bytes of all seeds together.
const MOST: usize = 200 << 10;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target)
}

/// The files of a target, by name.
fn files(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(target)).unwrap_or_else(|error| panic!("seeds of {target}: {error}"));
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("a file");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        (name, fs::read(entry.path()).expect("a seed"))
    };
    entries.map(read).collect()
}

#[test]
fn the_seeds_are_those_that_the_code_makes() {
    let write = std::env::var("SEEDS").is_ok_and(|what| what == "write");
    assert_eq!(seeds(), seeds(), "they differ from call to call");
    for Seed { target, name, bytes } in seeds() {
        if write {
            fs::create_dir_all(folder(target)).unwrap();
            fs::write(folder(target).join(&name), &bytes).unwrap();
        }
        let kept = files(target).remove(&name);
        assert!(
            kept.as_ref() == Some(&bytes),
            "fuzz/seeds/{target}/{name} is another; SEEDS=write makes it anew"
        );
    }
    let all: usize = TARGETS
        .iter()
        .flat_map(|(target, _)| files(target).into_values())
        .map(|bytes| bytes.len())
        .sum();
    assert!(all <= MOST, "{all} bytes of seeds");
}

/// One change of an input.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    /// A number that is often a limit.
    Number(Index, u64, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    /// A part of the input once more.
    Repeat(Index, Index, u8),
    Cut(Index),
    /// A part of another seed.
    Splice(Index, Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let limits = prop_oneof![
        Just(0),
        Just(u64::MAX),
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u32..64).prop_map(|bit| (1 << bit) - 1),
        any::<u64>(),
    ];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        3 => (at(), limits, 0u8..4).prop_map(|(at, number, width)| Mutation::Number(at, number, width)),
        1 => (at(), collection::vec(any::<u8>(), 1..24)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (at(), 1u8..24).prop_map(|(at, len)| Mutation::Remove(at, len)),
        2 => (at(), at(), 1u8..64).prop_map(|(from, to, len)| Mutation::Repeat(from, to, len)),
        1 => at().prop_map(Mutation::Cut),
        2 => (at(), at(), at()).prop_map(|(seed, from, to)| Mutation::Splice(seed, from, to)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation, others: &[Vec<u8>]) {
    let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
    match mutation {
        Mutation::Set(at, byte) if !bytes.is_empty() => *at.get_mut(bytes.as_mut_slice()) = *byte,
        Mutation::Flip(at, bit) if !bytes.is_empty() => *at.get_mut(bytes.as_mut_slice()) ^= 1 << bit,
        Mutation::Set(..) | Mutation::Flip(..) => {}
        Mutation::Number(at, number, width) => {
            let at = place(at, bytes);
            for (to, from) in bytes[at..].iter_mut().zip(number.to_le_bytes()).take(1 << width) {
                *to = from;
            }
        }
        Mutation::Insert(at, more) => {
            let at = place(at, bytes);
            bytes.splice(at..at, more.iter().copied());
        }
        Mutation::Remove(at, len) => {
            let at = place(at, bytes);
            let end = bytes.len().min(at + usize::from(*len));
            bytes.drain(at..end);
        }
        Mutation::Repeat(from, to, len) => {
            let (from, to) = (place(from, bytes), place(to, bytes));
            let part = bytes[from..bytes.len().min(from + usize::from(*len))].to_vec();
            bytes.splice(to..to, part);
        }
        Mutation::Cut(at) => bytes.truncate(place(at, bytes)),
        Mutation::Splice(seed, from, to) => {
            let other = seed.get(others);
            let (from, to) = (place(from, other), place(to, bytes));
            bytes.splice(to..to, other[from..].iter().copied());
        }
    }
}

/// Replays the seeds of a target, then mutations of them.
fn replay(target: &str, cases: u32) {
    let (_, run) = TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .unwrap_or_else(|| panic!("no target {target}"));
    let seeds: Vec<_> = files(target).into_values().collect();
    assert!(!seeds.is_empty());
    run(&[]);
    for seed in &seeds {
        run(seed);
    }
    let cases = std::env::var("CASES").map_or(cases, |cases| cases.parse().expect("a number"));
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let strategy = (any::<Index>(), collection::vec(mutation(), 1..8));
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |(seed, mutations)| {
            let mut bytes = seed.get(&seeds).clone();
            for mutation in &mutations {
                mutate(&mut bytes, mutation, &seeds);
            }
            run(&bytes);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{target}: {error}"));
}

#[test]
fn frames() {
    replay("frames", 3000);
}

#[test]
fn handshakes() {
    replay("handshake", 2000);
}

#[test]
fn schemas() {
    replay("schemas", 2000);
}

#[test]
fn archives() {
    replay("archives", 20_000);
}

#[test]
fn segments() {
    replay("segment", 6000);
}
