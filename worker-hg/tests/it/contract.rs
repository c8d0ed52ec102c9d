//! What every version control must do, with Mercurial.

worlds::contract!(crate::world::Hg, hg);
