//! `mapbuf list`

use crate::{args::ListArgs, failure::Failure, output};
use mapbuf::{
    abi::explain::Bytes,
    sysfs::{self, Entry},
};
use serde::Serialize;
use std::fmt;

/// A named buffer, in the names of JSON.
#[derive(Serialize)]
pub struct Row {
    name: String,
    bytes: u64,
    kind: &'static str,
    cache: &'static str,
    mappings: u64,
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    dma_address: Option<String>,
}

impl From<Entry> for Row {
    fn from(entry: Entry) -> Self {
        Self {
            bytes: entry.bytes,
            kind: entry.kind.name(),
            cache: entry.cache.name(),
            mappings: entry.mappings,
            mode: entry.node.map(|node| format!("{:04o}", node.mode)),
            uid: entry.node.map(|node| node.uid),
            gid: entry.node.map(|node| node.gid),
            dma_address: entry.dma_address.map(|address| format!("{address:#x}")),
            name: entry.name,
        }
    }
}

impl Row {
    /// A buffer in a few lines.
    pub fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} of {} memory, {}",
            self.name,
            Bytes(self.bytes),
            self.kind,
            self.cache
        )?;
        if let (Some(mode), Some(uid), Some(gid)) = (&self.mode, self.uid, self.gid) {
            let node = mapbuf::Named::path(&self.name);
            writeln!(
                f,
                "  node {}, mode {mode}, user {uid}, group {gid}",
                node.display()
            )?;
        }
        writeln!(f, "  mappings: {}", self.mappings)?;
        match &self.dma_address {
            Some(address) => writeln!(f, "  DMA address: {address}"),
            None => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct List {
    buffers: Vec<Row>,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.buffers.is_empty() {
            return writeln!(
                f,
                "no named buffers; make one: mapbuf create NAME --kind vmalloc --size 64K"
            );
        }
        let width = self
            .buffers
            .iter()
            .map(|row| row.name.len())
            .max()
            .unwrap_or(0)
            .max(4);
        writeln!(
            f,
            "{:width$}  {:>12}  {:10}  {:14}  {:4}  {:>11}  {:>8}  DMA",
            "NAME", "SIZE", "KIND", "CACHE", "MODE", "OWNER", "MAPPINGS"
        )?;
        for row in &self.buffers {
            let owner = match (row.uid, row.gid) {
                (Some(uid), Some(gid)) => format!("{uid}:{gid}"),
                _ => "-".to_owned(),
            };
            writeln!(
                f,
                "{:width$}  {:>12}  {:10}  {:14}  {:4}  {:>11}  {:>8}  {}",
                row.name,
                Bytes(row.bytes).to_string(),
                row.kind,
                row.cache,
                row.mode.as_deref().unwrap_or("-"),
                owner,
                row.mappings,
                row.dma_address.as_deref().unwrap_or("-"),
            )?;
        }
        Ok(())
    }
}

pub fn run(args: &ListArgs) -> Result<(), Failure> {
    let buffers = sysfs::list()?.into_iter().map(Row::from).collect();
    output::answer(args.output, &List { buffers })
}
