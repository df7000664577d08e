//! The few messages of Postgres' protocol that are needed to ask a server whether it serves, and to make a database.
//!
//! Not a client: no passwords, no TLS, no parameters, no results. What is here keeps the tools of a client
//! (`pg_isready`, `psql`), which not every server package brings along, and a client crate out of this one.
//! Source: "Frontend/Backend Protocol" in Postgres' documentation, version 3.0.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

const PROTOCOL_VERSION: i32 = 3 << 16;
/// A message longer than this does not come from a server that starts a session.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// How long a server that runs may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a server answers to somebody who wants a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nobody listens.
    Nobody,
    /// Somebody listens and says nothing: stopped, or too busy.
    Silent,
    /// It is starting, recovering or stopping.
    NotYet,
    /// It serves, and that database is not there.
    NoSuchDatabase,
    /// It serves.
    Serves,
}

/// An error that a server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerRefusal {
    /// The SQLSTATE, five characters.
    pub code: String,
    /// The text.
    pub message: String,
}

/// Asks the server at a Unix socket for a session and closes it again.
pub fn ask_socket(socket: &Path, user: &str, database: &str) -> Answer {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Answer::Nobody };
    if stream.set_read_timeout(Some(ANSWER_TIMEOUT)).is_err() {
        return Answer::Nobody;
    }
    ask(&mut stream, user, database)
}

/// Asks the server at a port of this machine; it may want a password and then serves.
pub fn ask_port(port: u16, user: &str, database: &str) -> Answer {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return Answer::Nobody };
    if stream.set_read_timeout(Some(ANSWER_TIMEOUT)).is_err() {
        return Answer::Nobody;
    }
    ask(&mut stream, user, database)
}

/// Runs one statement without results as `user` in `database`.
pub fn run_statement(
    socket: &Path,
    user: &str,
    database: &str,
    statement: &str,
) -> io::Result<Result<(), ServerRefusal>> {
    let mut stream = UnixStream::connect(socket)?;
    if let Err(refusal) = start_session(&mut stream, user, database)? {
        return Ok(Err(refusal));
    }
    let mut message = vec![b'Q'];
    message.extend((statement.len() as i32 + 5).to_be_bytes());
    message.extend(statement.as_bytes());
    message.push(0);
    stream.write_all(&message)?;
    wait_until_ready(&mut stream)
}

fn ask(stream: &mut (impl Read + Write), user: &str, database: &str) -> Answer {
    match start_session(stream, user, database) {
        Ok(Ok(())) => Answer::Serves,
        Ok(Err(refusal)) => match refusal.code.as_str() {
            // cannot_connect_now, admin_shutdown, crash_shutdown
            "57P03" | "57P01" | "57P02" => Answer::NotYet,
            "3D000" => Answer::NoSuchDatabase,
            // Too many connections, a refused user: whatever it is, a server judged it.
            _ => Answer::Serves,
        },
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Answer::Silent,
            // It went away in the middle of its answer.
            _ => Answer::NotYet,
        },
    }
}

fn start_session(
    stream: &mut (impl Read + Write),
    user: &str,
    database: &str,
) -> io::Result<Result<(), ServerRefusal>> {
    let mut parameters = PROTOCOL_VERSION.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, "application_name", "sluice cluster"] {
        parameters.extend(text.as_bytes());
        parameters.push(0);
    }
    parameters.push(0);
    let mut message = (parameters.len() as i32 + 4).to_be_bytes().to_vec();
    message.extend(parameters);
    stream.write_all(&message)?;
    wait_until_ready(stream)
}

/// Reads messages until the server is ready for the next statement, wants a password, or refuses.
fn wait_until_ready(stream: &mut impl Read) -> io::Result<Result<(), ServerRefusal>> {
    let mut refusal = None;
    loop {
        let (kind, body) = read_message(stream)?;
        match kind {
            b'Z' => return Ok(refusal.map_or(Ok(()), Err)),
            // Authentication: 0 is "ok", anything else asks for a password, which only a server that serves does.
            b'R' if body.get(..4) != Some(&[0; 4]) => return Ok(Ok(())),
            b'E' => {
                let refused = read_refusal(&body);
                // A session that is refused ends without `Z`; a failed statement goes on to it.
                if refused.fatal {
                    return Ok(Err(refused.refusal));
                }
                refusal = Some(refused.refusal);
            }
            _ => {}
        }
    }
}

fn read_message(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if !(4..=MAX_MESSAGE_BYTES).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a message of Postgres"));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body)?;
    Ok((head[0], body))
}

struct Refused {
    refusal: ServerRefusal,
    fatal: bool,
}

fn read_refusal(body: &[u8]) -> Refused {
    let field = |wanted: u8| {
        body.split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&wanted))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
            .unwrap_or_default()
    };
    Refused {
        refusal: ServerRefusal { code: field(b'C'), message: field(b'M') },
        fatal: matches!(field(b'V').as_str(), "FATAL" | "PANIC"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A server whose answer is fixed, and that takes whatever is written.
    struct Scripted(Cursor<Vec<u8>>);

    impl Read for Scripted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((body.len() as i32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn answer_to(messages: &[Vec<u8>]) -> Answer {
        ask(&mut Scripted(Cursor::new(messages.concat())), "sluice", "sluice")
    }

    #[test]
    fn a_server_that_recovers_is_not_ready_yet() {
        let refused = message(b'E', b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert_eq!(answer_to(&[refused]), Answer::NotYet);
    }

    #[test]
    fn a_missing_database_is_told_from_a_missing_server() {
        let greeted = message(b'R', &[0; 4]);
        let refused = message(b'E', b"SFATAL\0VFATAL\0C3D000\0Mdatabase \"sluice\" does not exist\0\0");
        assert_eq!(answer_to(&[greeted.clone(), refused]), Answer::NoSuchDatabase);
        assert_eq!(answer_to(&[greeted.clone(), message(b'Z', b"I")]), Answer::Serves);
        assert_eq!(answer_to(&[greeted]), Answer::NotYet);
    }

    #[test]
    fn a_server_that_asks_for_a_password_serves() {
        assert_eq!(answer_to(&[message(b'R', &[0, 0, 0, 10])]), Answer::Serves);
    }

    #[test]
    fn nonsense_from_the_socket_is_no_panic() {
        assert_eq!(answer_to(&[b"HTTP/1.1 400 Bad Request\r\n".to_vec()]), Answer::NotYet);
    }
}
