//! A table of a test, where each row says what it is about.

/// Does a row's work, and names the row when that fails.
pub fn row<T>(what: &str, work: impl FnOnce() -> T) -> T {
    struct Naming<'a>(&'a str);
    impl Drop for Naming<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("--- this row failed: {}", self.0);
            }
        }
    }
    let _naming = Naming(what);
    work()
}
