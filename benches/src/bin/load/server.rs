//! The server: plain `std::net`, one thread.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

/// Bytes of a connection's buffers, in each direction.
const BUFFER: usize = 64 << 10;

/// Echoes until standard input ends.
pub(crate) fn serve() {
    crore::run(|| {
        let listener = listen().expect("a port");
        println!("{}", listener.local_addr().expect("its address").port());
        crore::spawn(move || {
            for stream in listener.incoming() {
                // Resets and closes are the client's business, who counts them.
                stream.map(|stream| crore::spawn(move || echo(stream)))?;
            }
            io::Result::Ok(())
        });
        let _ = io::stdin().read(&mut [0]);
    })
    .expect("a runtime");
}

/// With room for a crowd that comes at once; and with buffers of a size, so
/// that slow readers don't use up the memory that the kernel has for all TCP
/// (`net.ipv4.tcp_mem`), which would slow everybody down.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..count])?;
    }
}
