//! Drivers of the kernel's own sources that its configuration leaves out, built as modules for it.
//!
//! Debian's cloud kernel has no camera and no graphics card, and its full kernel is a gigabyte of packages to fetch,
//! unpack and prepare. The sources that are there hold them all, so the few that tests need are built against the
//! prepared tree as any other module, with the options that they depend on given to make and to the compiler. None of
//! these options changes a struct that the running kernel has.

use crate::cache::Cache;
use crate::kernel::{config_value, Kernel};
use crate::ui::Ui;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Changes when what is done to build them changes.
const RECIPE: u32 = 1;

/// Where the folder of results is inside the sandbox, and in it the sources' links, the objects, and the modules.
const INSIDE: &str = "/mnt";
const LINKS: &str = "sources";
const OBJECTS: &str = "objects";
const MODULES: &str = "modules";
/// A line for each module: its name, a colon, and the names of those that it needs.
const NEEDS: &str = "needs";

/// What is built together.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Drivers {
    /// The name of the set.
    pub name: &'static str,
    /// Folders below `drivers/` of the kernel's sources, those that are needed first.
    folders: &'static [&'static str],
    /// Options that are not set in the kernel's configuration, as modules (`m`) or parts of them (`y`).
    options: &'static [(&'static str, &'static str)],
    /// Values that the sources ask for besides.
    values: &'static [(&'static str, &'static str)],
    /// About how many lines make prints.
    lines: u64,
}

/// `vivid`, a camera and a screen in software, with what it takes of Video4Linux.
pub const CAMERA: Drivers = Drivers {
    name: "camera",
    folders: &[
        "media/mc",
        "media/v4l2-core",
        "media/common/videobuf2",
        "media/common/v4l2-tpg",
        "media/test-drivers/vivid",
    ],
    options: &[
        ("MEDIA_SUPPORT", "m"),
        ("MEDIA_CONTROLLER", "y"),
        ("VIDEO_DEV", "m"),
        ("VIDEOBUF2_CORE", "m"),
        ("VIDEOBUF2_V4L2", "m"),
        ("VIDEOBUF2_MEMOPS", "m"),
        ("VIDEOBUF2_DMA_CONTIG", "m"),
        ("VIDEOBUF2_VMALLOC", "m"),
        ("VIDEO_V4L2_TPG", "m"),
        ("VIDEO_VIVID", "m"),
    ],
    values: &[("VIDEO_VIVID_MAX_DEVS", "64")],
    lines: 93,
};

/// `rdma_rxe`: RDMA over any network card, in software.
pub const RDMA: Drivers = Drivers {
    name: "rdma",
    folders: &["infiniband/sw/rxe"],
    options: &[("RDMA_RXE", "m")],
    values: &[],
    lines: 28,
};

impl Drivers {
    /// The modules, built if need be: a folder for [`Built::with_dependencies`].
    pub fn build(&self, cache: &Cache, ui: &Ui, kernel: &Kernel) -> Result<Built> {
        let folder = cache.entry("drivers", &self.entry_name(kernel)?, |part| {
            self.make(cache, ui, kernel, part)
        })?;
        Built::read(folder)
    }

    /// Named after the kernel and all that they are made from.
    fn entry_name(&self, kernel: &Kernel) -> Result<String> {
        let mut hasher = DefaultHasher::new();
        (RECIPE, self, &kernel.identity.version, &kernel.root.path).hash(&mut hasher);
        let kernel = kernel
            .folder
            .file_name()
            .context("a kernel without a name")?;
        let kernel = kernel.to_string_lossy();
        Ok(format!("{kernel}-{}-{:016x}", self.name, hasher.finish()))
    }

    fn make(&self, cache: &Cache, ui: &Ui, kernel: &Kernel, part: &Path) -> Result<()> {
        let log = cache.log(&self.entry_name(kernel)?);
        let step = ui.step(
            &format!("Building the kernel's own drivers: {}", self.name),
            self.lines,
        );
        // Kbuild writes its objects beside its own folder, and the tree is not to be written to.
        let (links, objects) = (part.join(LINKS), part.join(OBJECTS));
        fs::create_dir(&links)?;
        fs::create_dir(&objects)?;
        let mut list = String::new();
        for folder in self.folders {
            let top = folder.split('/').next().unwrap_or(folder);
            let link = links.join(top);
            if !link.is_symlink() {
                symlink(kernel.tree_inside().join("drivers").join(top), link)?;
            }
            list.push_str(&format!("obj-m += {folder}/\n"));
        }
        fs::write(links.join("Kbuild"), list)?;

        let config = fs::read_to_string(kernel.tree().join(".config"))?;
        let missing: Vec<_> = self
            .options
            .iter()
            .filter(|(name, _)| config_value(&config, &format!("CONFIG_{name}")).is_none())
            .collect();
        let mut flags = String::from("KCFLAGS=");
        for (name, value) in &missing {
            let suffix = if *value == "m" { "_MODULE" } else { "" };
            flags.push_str(&format!("-DCONFIG_{name}{suffix}=1 "));
        }
        for (name, value) in self.values {
            flags.push_str(&format!("-DCONFIG_{name}={value} "));
        }
        let inside = Path::new(INSIDE);
        let sandbox = kernel.sandbox().write(part, inside);
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = sandbox.command("make");
        command
            .arg("-C")
            .arg(kernel.tree_inside())
            .args(kernel.make_variables())
            .arg(format!("-j{jobs}"))
            .arg(format!("M={INSIDE}/{LINKS}"))
            .arg(format!("MO={INSIDE}/{OBJECTS}"))
            .args(
                missing
                    .iter()
                    .map(|(name, value)| format!("CONFIG_{name}={value}")),
            )
            .arg(flags)
            .arg("modules");
        step.run(&mut command, &log)?;

        let script = format!(
            "cd {INSIDE}; mkdir {MODULES}
             find {OBJECTS} -name '*.ko' -exec mv -t {MODULES} '{{}}' +
             for module in {MODULES}/*; do
                 echo \"$(basename $module .ko): $(modinfo -F depends $module)\"
             done > {NEEDS}
             rm -rf {LINKS} {OBJECTS}"
        );
        let mut command = sandbox.command("sh");
        command.args(["-e", "-c", &script]);
        step.run(&mut command, &log)?;
        step.done();
        Ok(())
    }
}

/// Drivers that are built.
#[derive(Clone, Debug)]
pub struct Built {
    folder: PathBuf,
    /// What each module needs, by name.
    needs: BTreeMap<String, Vec<String>>,
}

impl Built {
    fn read(folder: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(folder.join(NEEDS))?;
        Ok(Self {
            folder,
            needs: parse(&text),
        })
    }

    /// The module of this name, and before it those that it needs, of these and of the kernel's; none if it is none of
    /// these.
    pub fn with_dependencies(&self, kernel: &Kernel, name: &str) -> Result<Option<Vec<PathBuf>>> {
        let mut files = Vec::new();
        let known = self.needs.contains_key(name);
        if known {
            self.visit(name, &mut files, &|name| {
                kernel.module_with_dependencies(name)
            })?;
        }
        Ok(known.then_some(files))
    }

    fn visit(
        &self,
        name: &str,
        files: &mut Vec<PathBuf>,
        kernels: &dyn Fn(&str) -> Result<Vec<PathBuf>>,
    ) -> Result<()> {
        let own = match self.needs.get(name) {
            Some(needs) => {
                for needed in needs {
                    self.visit(needed, files, kernels)?;
                }
                vec![self.folder.join(MODULES).join(format!("{name}.ko"))]
            }
            None => kernels(name)?,
        };
        for file in own {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Ok(())
    }
}

fn parse(needs: &str) -> BTreeMap<String, Vec<String>> {
    needs
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, needs)| {
            let needs = needs.trim().split(',').filter(|need| !need.is_empty());
            (name.to_owned(), needs.map(str::to_owned).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let built = Built {
            folder: PathBuf::from("/x"),
            needs: parse("camera: core,math,timings\ncore: \ntimings: math,core\n"),
        };
        let kernels = |name: &str| match name {
            "math" => Ok(vec![
                PathBuf::from("/k/base.ko"),
                PathBuf::from("/k/math.ko"),
            ]),
            other => anyhow::bail!("no module {other}"),
        };
        let mut files = Vec::new();
        built.visit("camera", &mut files, &kernels).unwrap();
        let expected = [
            "/x/modules/core.ko",
            "/k/base.ko",
            "/k/math.ko",
            "/x/modules/timings.ko",
            "/x/modules/camera.ko",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
    }
}
