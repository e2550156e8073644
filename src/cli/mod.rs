//! The commands: one file each.
//! Never holds logic that another room could own.
