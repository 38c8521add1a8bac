//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use shmbus::{Bus, error::JoinError};
use shmbus_examples::place::Place;

/// What the bus is called, if nothing else is said.
const PROGRAM: &str = "frames";

/// Decodes pictures into shared memory and finds their edges in worker processes, without copying a pixel.
#[derive(Debug, Parser)]
#[command(name = "frames", version)]
pub struct Args {
    /// Without a role: all of them, on a bus of their own.
    #[command(subcommand)]
    pub role: Option<Role>,
    #[command(flatten)]
    pub options: Options,
}

/// One of the processes. They are started by `frames` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
#[command(hide = true)]
pub enum Role {
    #[command(hide = true)]
    Source,
    #[command(hide = true)]
    Worker { number: u32 },
}

/// When pictures are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Decode {
    /// For every frame anew, into the frame's own memory: no copy, but as slow as the decoder.
    Every,
    /// At first; then each frame is one copy of that: as fast as memory.
    Once,
}

/// What can be set, for every role alike.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// A PNG or JPEG file, or a folder of them (default: a test chart that is part of the program)
    #[arg(long, global = true, value_name = "PATH")]
    pub picture: Option<PathBuf>,
    /// Frames in all
    #[arg(long, global = true, value_name = "N", default_value_t = 240,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub frames: u64,
    /// Worker processes
    #[arg(long, global = true, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// Frames that one worker may have at a time; then the source waits
    #[arg(long, global = true, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub depth: u32,
    /// When pictures are decoded
    #[arg(long, global = true, value_enum, default_value_t = Decode::Every)]
    pub decode: Decode,
    /// Where to write the result; further pictures get `-2`, `-3`, .. before the ending (default: a temporary file)
    #[arg(long, global = true, value_name = "PNG")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub place: Place,
}

impl Options {
    /// The bus.
    pub fn bus_name(&self) -> String {
        self.place.bus_name(PROGRAM)
    }

    /// Says what is wrong with `--out` as far as that shows before anything is written.
    pub fn check_out(&self) -> Result<(), String> {
        let file = self.out(0);
        if file.is_dir() {
            return Err(format!("--out {}: this is a folder; name a file", file.display()));
        }
        match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(format!(
                "--out {}: there is no folder {}",
                file.display(),
                folder.display()
            )),
            _ => Ok(()),
        }
    }

    /// The file for the result of a picture, counted from 0.
    pub fn out(&self, picture: u32) -> PathBuf {
        let first = self
            .out
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("{}.png", self.bus_name())));
        if picture == 0 {
            return first;
        }
        let mut name = first.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{}.png", picture + 1));
        first.with_file_name(name)
    }

    /// Joins as the node of that name.
    pub async fn join(&self, node: &str) -> Result<Bus, JoinError> {
        self.place.join(PROGRAM, node).await
    }

    /// The command line that starts a role (its words) on the same bus.
    pub fn command_line(&self, role: &[&str]) -> Vec<OsString> {
        let mut line = self.place.command_line(PROGRAM, role);
        if let Some(picture) = &self.picture {
            line.extend(["--picture".into(), picture.into()]);
        }
        let decode = match self.decode {
            Decode::Every => "every",
            Decode::Once => "once",
        };
        line.extend(["--decode".into(), decode.into()]);
        for (name, value) in [("--frames", self.frames), ("--depth", self.depth.into())] {
            line.extend([name.into(), value.to_string().into()]);
        }
        line
    }
}

#[cfg(test)]
mod tests;
