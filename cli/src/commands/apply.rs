//! `mapbuf apply`

mod plan;

use super::create::{CreateArgs, Prepared};
use crate::{
    failure::Failure,
    output::{self, OutputArgs},
    terminal,
    values::{CacheArg, KindArg},
    wanted::{self, Memory, Unreadable, Wanted},
};
use clap::Args as Group;
use mapbuf::{sysfs, Device, Named};
use plan::{Action, Plan, Row, There};
use std::{
    fs,
    os::unix::fs::{chown, PermissionsExt},
    path::PathBuf,
};

/// Create the named buffers that files ask for
///
/// Reads /etc/mapbuf.d/*.toml, or the files that you name, compares them with the buffers that are there, and shows what it
/// would do: create a buffer, keep one, or change the mode and the group of a node. A buffer of another size or kind is left
/// as it is unless --replace is given: its contents would be lost. Buffers that no file names are left alone. Nothing is
/// changed before you agree, and nothing at all if one of the files has a mistake or if memory for one of the buffers is
/// missing.
///
/// The service mapbuf.service of the package does this when the machine starts.
#[derive(Debug, Group)]
#[command(after_long_help = "A file:
  [[buffer]]
  name = \"ring\"
  kind = \"contiguous\"        # vmalloc, pages, contiguous, coherent; region: one of regions=, with its size, owner and mode
  size = \"2M\"
  owner = \"root\"             # a name or a number
  group = \"mapbuf\"
  mode = \"0640\"
  fill-pages = \"ddccbbaa\"
  cache = \"cached\"           # write-combined, uncached
  below = \"4G\"
  align = \"64K\"
  boundary = \"16M\"
  numa-node = 0              # or \"device\"
  device = \"0000:00:04.0\"    # a DMA buffer for a device that is bound
Only name, size and kind must be given. They mean what they do for 'mapbuf create'; what is left out is not compared, and
neither are the contents and where the memory lies.

Examples:
  mapbuf apply --dry-run
  mapbuf apply --yes ./buffers.toml")]
pub struct ApplyArgs {
    /// The files [default: /etc/mapbuf.d/*.toml]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Remove buffers that differ, with their contents, and create them again
    #[arg(long)]
    pub replace: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    /// Show what would be done, and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::File(path, source) => Self::File { path, source },
            Unreadable::Mistakes(mistakes) => Self::Mistakes(mistakes),
        }
    }
}

pub fn run(args: &ApplyArgs) -> Result<(), Failure> {
    let files = match args.files.is_empty() {
        true => wanted::files_of(wanted::FOLDER.as_ref())?,
        false => args.files.clone(),
    };
    let wanted = wanted::read(&files)?;
    // Without the driver there is nothing to compare with, but no files ask for nothing.
    if files.is_empty() {
        return finish(
            args,
            &Plan::default(),
            "there are no files; see mapbuf apply --help\n",
        );
    }
    let there = sysfs::list()?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
    let there: Vec<_> = there.iter().map(There::from).collect();
    let mut plan = Plan::new(&wanted, &there, page, args.replace);
    if !args.output.json {
        output::print(&plan)?;
    }
    if let Some(mistakes) = plan.impossible(&wanted) {
        return Err(Failure::Mistakes(mistakes));
    }
    if args.dry_run {
        return finish(args, &plan, "nothing changed\n");
    }
    if plan.changes() == 0 {
        return conclude(args, &plan, "nothing to change\n");
    }
    if !args.yes && !terminal::confirms(&plan.question(), "this")? {
        return finish(args, &plan, "nothing changed\n");
    }
    carry_out(&mut plan, &wanted)?;
    let said = format!("done: {}\n", plan.done());
    conclude(args, &plan, &said)
}

/// The answer when all was done that was asked for, and a failure if a buffer differs still.
fn conclude(args: &ApplyArgs, plan: &Plan, text: &str) -> Result<(), Failure> {
    let differing = plan.differing();
    if differing.is_empty() {
        return finish(args, plan, text);
    }
    finish(args, plan, text)?;
    Err(Failure::Differing(differing))
}

fn finish(args: &ApplyArgs, plan: &Plan, text: &str) -> Result<(), Failure> {
    if args.output.json {
        return output::print_json(plan);
    }
    output::print(&text).map(drop)
}

/// Does what the plan says. Memory comes first, for all of them, so that its lack changes nothing.
fn carry_out(plan: &mut Plan, wanted: &[Wanted]) -> Result<(), Failure> {
    let mut prepared = Vec::new();
    for (row, wanted) in plan.rows().zip(wanted) {
        let new = match row.action {
            Action::Create | Action::Replace => {
                let args = create_args(wanted);
                let buffer = args.prepare();
                let buffer = buffer.map_err(|failure| plan.failed(&[], wanted, failure))?;
                Some((args, buffer))
            }
            _ => None,
        };
        prepared.push(new);
    }
    let mut done = Vec::new();
    for ((index, wanted), new) in wanted.iter().enumerate().zip(prepared) {
        let Some(row) = plan.row(index) else { continue };
        if !row.action.changes() {
            continue;
        }
        if let Err(failure) = one(row, wanted, new, &mut done) {
            return Err(plan.failed(&done, wanted, failure));
        }
        plan.set_done(index);
    }
    Ok(())
}

/// Does what one row says, and tells what was done.
fn one(
    row: &Row,
    wanted: &Wanted,
    new: Option<(CreateArgs, Prepared)>,
    done: &mut Vec<String>,
) -> Result<(), Failure> {
    let name = wanted.entry.name.get_ref();
    if row.action == Action::Replace {
        Device::open()?.unname(name)?;
        done.push(format!("removed {name}"));
    }
    match new {
        Some((args, buffer)) => buffer.name(&args).map(drop)?,
        None => change(wanted)?,
    }
    done.push(row.describe_done());
    Ok(())
}

/// Gives a node the owner, group and mode that its file says.
fn change(wanted: &Wanted) -> Result<(), Failure> {
    let entry = &wanted.entry;
    let path = Named::path(entry.name.get_ref());
    let file = |source| Failure::File {
        path: path.clone(),
        source,
    };
    let owner = entry.owner.map(|owner| owner.0 .0);
    let group = entry.group.map(|group| group.0 .0);
    if owner.is_some() || group.is_some() {
        chown(&path, owner, group).map_err(file)?;
    }
    if let Some(mode) = entry.mode {
        let mode = fs::Permissions::from_mode(mode.0 .0);
        fs::set_permissions(&path, mode).map_err(file)?;
    }
    Ok(())
}

/// What `mapbuf create` would be told.
fn create_args(wanted: &Wanted) -> CreateArgs {
    let entry = &wanted.entry;
    CreateArgs {
        name: entry.name.get_ref().clone(),
        kind: entry.kind().map(Memory::kind).and_then(KindArg::of),
        size: entry.size.map_or(0, |size| size.0 .0),
        device: entry.device.clone().map(|device| device.0),
        below: entry.below.map(|below| below.0 .0),
        align: entry.align.map(|align| align.0 .0),
        boundary: entry.boundary.map(|boundary| boundary.0 .0),
        cache: entry.cache.map_or(CacheArg::Cached, |cache| cache.0),
        numa_node: entry.numa_node.map(|node| node.0),
        fill_pages: entry.fill_pages.clone().map(|bytes| bytes.0),
        mode: entry.mode(),
        uid: entry.owner.map(|owner| owner.0 .0),
        gid: entry.group.map(|group| group.0 .0),
        output: OutputArgs { json: false },
    }
}
