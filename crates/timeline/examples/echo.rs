//! Echoes over a Unix socket, recorded: `cargo run -p crore-timeline --example echo`
//! writes a timeline to standard output.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn main() -> std::io::Result<()> {
    let runtime = crore::Runtime::builder().workers(2).build()?;
    let timeline = runtime.run(|| {
        let recording = crore::Handle::current().unwrap().record(10_000).unwrap();
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let server = crore::Builder::new().name("server".into()).spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(n @ 1..) = there.read(&mut buffer) {
                there.write_all(&buffer[..n]).unwrap();
            }
        });
        for round in 0..100_u8 {
            here.write_all(&[round]).unwrap();
            let mut back = [0];
            here.read_exact(&mut back).unwrap();
            assert_eq!(back, [round]);
        }
        drop(here);
        server.unwrap().join().unwrap();
        recording.finish()
    })?;
    crore_timeline::write(&timeline, std::io::stdout())
}
