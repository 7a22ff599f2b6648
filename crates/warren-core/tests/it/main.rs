//! The public interface of core, on a fake runtime.

mod driver;
mod pool;
mod restart;
mod store;
mod world;
