//! What goes wrong while images are fetched and files are saved: registries that go away, blobs that
//! are not what they should be, disks that are full, and servers that are killed.
//!
//! Whatever happens, there is the whole of a thing or nothing of it; the error says what to do, and
//! the same request succeeds once the cause is gone.

mod disk;
