//! Starts the processes and ends them, and writes the results.

use std::{path::PathBuf, pin::pin, time::Duration};

use shmbus_examples::{child::Family, stop};
use tokio::{select, sync::watch, time::timeout};

use crate::{
    Failure,
    args::Options,
    collector::{COLLECTOR, Close, Collection, Collector, Progress},
    messages::{Edges, Ready, Summary},
    picture::{self, Picture},
    report::Report,
};

/// How long the last words of processes that have ended may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs it all, writes the results and prints the report.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let mut stop = pin!(stop::requested(None, 0)?);
    // A picture that can't be read is found out before anything is started.
    let pictures = picture::load(options.picture.as_deref())?;
    for picture in &pictures {
        picture.open()?;
    }
    // So is a place where the results can't be.
    options.check_out()?;
    let bus = options.join("launcher").await?;
    let collector = Collector::default();
    let progress = collector.progress();
    let collector = bus
        .bind(COLLECTOR, collector)
        .handles::<Ready>()
        .handles::<Edges>()
        .handles::<Summary>()
        .start()
        .await?;
    let mut pipeline = Pipeline {
        options,
        progress,
        family: Family::default(),
    };
    let ended = select! {
        () = &mut stop => Err("ended early".into()),
        ended = pipeline.work() => ended,
    };
    let family = pipeline.family.end().await;
    let all = options.workers + 1;
    let counted = timeout(
        FAREWELL,
        pipeline.progress.wait_for(|progress| progress.summaries == all),
    )
    .await;
    let collection = collector.addr().send(Close).await?;
    let files = save(options, &pictures, &collection)?;
    let counted = counted.is_ok();
    print!(
        "{}",
        Report {
            options,
            collection: &collection,
            counted,
            files: &files
        }
    );
    // The results lie in shared memory: they are given back before the bus is left.
    drop(collection);
    bus.leave().await;
    ended?;
    Ok(family?)
}

/// Writes the results. Returns each picture's name and file.
fn save<'a>(
    options: &Options,
    pictures: &'a [Picture],
    collection: &Collection,
) -> Result<Vec<(&'a str, PathBuf)>, String> {
    let mut files = Vec::new();
    for (picture, result) in &collection.results {
        let histogram = result.histogram.map(|count| count.to_native());
        let path = options.out(*picture);
        picture::save(&path, &result.edges, result.width.to_native(), &histogram)?;
        // A folder may have changed since the source has read it.
        let name = pictures
            .get(*picture as usize)
            .map_or("a new picture", Picture::name);
        files.push((name, path));
    }
    Ok(files)
}

struct Pipeline<'a> {
    options: &'a Options,
    progress: watch::Receiver<Progress>,
    family: Family,
}

impl Pipeline<'_> {
    /// From the first process to the last result.
    async fn work(&mut self) -> Result<(), Failure> {
        let workers = self.options.workers;
        for number in 1..=workers {
            let role = ["worker", &number.to_string()];
            self.family
                .start(role.join(" "), self.options.command_line(&role))?;
        }
        self.until(|progress| progress.ready == workers).await?;
        self.family
            .start("source", self.options.command_line(&["source"]))?;
        let frames = self.options.frames;
        self.until(|progress| progress.frames == frames).await
    }

    /// Waits until things are that far. Nobody may end before.
    async fn until(&mut self, far: impl Fn(&Progress) -> bool) -> Result<(), Failure> {
        select! {
            reached = self.progress.wait_for(&far) => Ok(reached.map(drop)?),
            ended = self.family.one_ended() => {
                let (name, status) = ended?;
                Err(format!("the {name} ended early ({status})").into())
            }
        }
    }
}
