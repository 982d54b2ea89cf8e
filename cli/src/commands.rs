//! One file for each command.

pub mod apply;
pub mod bind;
pub mod create;
pub mod dump;
pub mod explain;
pub mod fill;
pub mod generate;
pub mod info;
pub mod list;
pub mod load;
pub mod probe;
pub mod remove;
pub mod show;
pub mod unbind;
pub mod unload;
