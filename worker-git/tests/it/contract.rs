//! What every version control must do, with Git.

worlds::contract!(crate::world::GitSide, git);
