//! What a second worker is worth to a service that computes 45 µs for each request, with
//! connections that come one after the other: requests a second with one worker and with
//! two, beside tokio's two, in turns, and the share of the busier worker. The clients use the
//! same processors. `cargo run --release -p crore-benches --bin two_workers [rounds]`

use std::env::{self, args};
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crore_peers::computing::{BYTES, answer, load, serve_on_tokio};

const SERVERS: [(&str, usize); 3] = [("crore", 1), ("crore", 2), ("tokio", 2)];
const TIME: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = args().skip(1).collect();
    if let [serve, name, workers] = &arguments[..] {
        assert_eq!(serve, "serve", "what the program starts itself with");
        return Ok(serve_with(name, workers.parse()?)?);
    }
    let rounds: usize = arguments.first().map_or(Ok(5), |text| text.parse())?;
    let mut figures = vec![Vec::new(); SERVERS.len()];
    for _ in 0..rounds {
        for (server, figures) in SERVERS.iter().zip(&mut figures) {
            figures.push(measure(server)?);
        }
    }
    for (&(name, workers), own) in SERVERS.iter().zip(&figures) {
        let ratios = own.iter().zip(&figures[0]).map(|(own, one)| own.0 / one.0);
        println!(
            "{name}, {workers} workers: {:.0} requests/s, {:.2} of crore's one; the busier has {:.0} %",
            median(own.iter().map(|figure| figure.0)),
            median(ratios),
            100.0 * median(own.iter().map(|figure| figure.1)),
        );
    }
    Ok(())
}

/// Requests a second, and the busiest worker's share of them.
fn measure((name, workers): &(&str, usize)) -> Result<(f64, f64), Box<dyn Error>> {
    let mut server = Command::new(env::current_exe()?)
        .args(["serve", name, &workers.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    let said = server.stdout.take().expect("it is a pipe");
    BufReader::new(said).read_line(&mut address)?;
    // Whatever goes wrong with the load, the server ends.
    let address = address.trim().parse().map_err(io::Error::other);
    let answers = address.and_then(|address| load(address, TIME));
    server.kill()?;
    server.wait()?;
    let answers = answers?;
    let sum = answers.iter().sum::<u64>() as f64;
    let most = *answers.iter().max().expect("there are some") as f64;
    Ok((sum / TIME.as_secs_f64(), most / sum))
}

fn serve_with(name: &str, workers: usize) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    if name == "tokio" {
        return serve_on_tokio(workers, listener);
    }
    let runtime = crore::Runtime::builder().workers(workers).build()?;
    runtime.run(move || {
        for stream in listener.incoming() {
            let stream = stream?;
            crore::spawn(move || serve(stream));
        }
        Ok(())
    })?
}

fn serve(mut stream: TcpStream) {
    let mut request = [0; BYTES];
    while stream.read_exact(&mut request).is_ok() && stream.write_all(&answer()).is_ok() {}
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
