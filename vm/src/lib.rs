//! Gets a kernel, builds modules against it, boots it in QEMU and runs programs in it.
//!
//! The rooms, from the archive to the verdict:
//!
//! - [`host`]: the few programs that the host must have;
//! - [`cache`]: where everything that was fetched or built is kept, and why a half-made thing is never taken for a whole one;
//! - [`debian`]: a Debian userland that holds the compilers, and other ones to be the guest's root;
//! - [`sandbox`]: how a program runs inside such a userland;
//! - [`suite`]: the Debian releases that kernels and compilers come from;
//! - [`flavour`]: the builds of a kernel that the archive has;
//! - [`choice`]: which kernel somebody asks for;
//! - [`offer`]: which ones the archive has, and which of them is taken;
//! - [`version`], [`identity`]: a kernel's number, and what it is;
//! - [`kernel`]: a kernel, and its tree, ready for modules;
//! - [`variant`], [`build`]: the kernels that find mistakes, and how they are built;
//! - [`shelf`]: which of them is taken, and how it is fetched;
//! - [`module`]: an out-of-tree module, built;
//! - [`drivers`]: drivers of the kernel's sources that its configuration leaves out, built;
//! - [`selftest`]: the kernel's own selftests, built;
//! - [`tree`]: a kernel tree that somebody names, and what it lacks;
//! - [`accel`], [`probe`]: what QEMU runs on, and what of that works here;
//! - [`initramfs`], [`disk`]: what the guest starts from;
//! - [`device`], [`attendant`]: devices for the machine, and what the host does with them when the guest asks;
//! - [`qemu`]: the machine, and what it says;
//! - [`wire`]: a wire between two machines;
//! - [`monitor`], [`shared`], [`pagetable`]: a look at the machine from outside;
//! - [`splat`]: what in a kernel's log is a failure;
//! - [`clock`], [`vigil`]: the guest's own time, and when a guest is given up;
//! - [`verdict`]: how a run ended.

pub mod accel;
pub mod attendant;
pub mod build;
pub mod cache;
pub mod choice;
pub mod clock;
pub mod debian;
pub mod device;
pub mod device_tree;
pub mod disk;
pub mod drivers;
pub mod flavour;
pub mod host;
pub mod identity;
pub mod initramfs;
pub mod iommu;
pub mod kernel;
pub mod module;
pub mod monitor;
pub mod museum_kernel;
pub mod offer;
pub mod pagetable;
pub mod probe;
pub mod qemu;
pub mod sandbox;
pub mod selftest;
pub mod shared;
pub mod shelf;
pub mod splat;
pub mod suite;
pub mod tree;
pub mod ui;
pub mod variant;
pub mod verdict;
pub mod version;
pub mod vigil;
pub mod wire;

pub use cache::Cache;
pub use choice::Choice;
pub use flavour::Flavour;
pub use kernel::Kernel;
pub use qemu::Machine;
pub use suite::Suite;
pub use ui::Ui;
pub use variant::Variant;
pub use verdict::Verdict;
