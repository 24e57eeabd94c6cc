//! A stand-in for a node: one conversation, in memory, that misbehaves when told to.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper: clippy knows only the test functions")]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use campanile_client::Tls;
use chat::errors::ErrorCode;
use chat::ids::{AppId, ClientMsgId, ConversationId, GroupId, UserId};
use chat::wire::{
    ClientFrame, EventContent, Limits, Position, Request, Resumption, SUBPROTOCOL, ServerFrame, WireError, WireEvent,
};
use futures_util::{SinkExt, StreamExt};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Handshake, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use uuid::Uuid;

/// What happens to the next sends, in their order; afterwards all is well.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Ack,
    /// Committed, but the connection is cut before the ack.
    CommitAndCut,
    /// Not committed, the connection is cut.
    Cut,
    Refuse(ErrorCode),
    Close(u16),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) log: Vec<WireEvent>,
    pub(crate) ids: HashMap<ClientMsgId, u64>,
    pub(crate) fates: VecDeque<Fate>,
    /// Every send that arrived.
    pub(crate) sends: Vec<ClientMsgId>,
    /// The positions of every resume.
    pub(crate) resumes: Vec<Vec<Position>>,
    /// Live events of these seqs are not pushed, as if the service had forgotten them.
    pub(crate) withheld: Vec<u64>,
}

pub(crate) struct Double {
    pub(crate) url: String,
    pub(crate) tls: Tls,
    pub(crate) state: Arc<Mutex<State>>,
}

pub(crate) fn conversation() -> ConversationId {
    ConversationId::Group(GroupId(Uuid::from_u128(1)))
}

pub(crate) async fn start() -> Double {
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let tls = Tls::from_ca_pem(key.cert.pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}", listener.local_addr().unwrap());
    let state = Arc::new(Mutex::new(State::default()));
    let shared = state.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp, acceptor.clone(), shared.clone()));
        }
    });
    Double { url, tls, state }
}

#[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
fn subprotocol(_: &Handshake, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    Ok(response)
}

type Stream = WebSocketStream<TlsStream<TcpStream>>;

async fn serve(tcp: TcpStream, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) -> Option<()> {
    tcp.set_nodelay(true).ok()?;
    let tls = acceptor.accept(tcp).await.ok()?;
    let mut stream = tokio_tungstenite::accept_hdr_async(tls, subprotocol).await.ok()?;
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let frame: ClientFrame = serde_json::from_str(&text).unwrap();
        let answers = answer(&mut state.lock().unwrap(), frame);
        match answers {
            Answers::Frames(frames) => {
                for frame in frames {
                    push(&mut stream, &frame).await?;
                }
            }
            Answers::Cut => return None,
            Answers::Close(code) => {
                let frame = CloseFrame { code: code.into(), reason: "told to".into() };
                stream.close(Some(frame)).await.ok()?;
            }
        }
    }
    Some(())
}

async fn push(stream: &mut Stream, frame: &ServerFrame) -> Option<()> {
    stream.send(Message::text(serde_json::to_string(frame).unwrap())).await.ok()
}

enum Answers {
    Frames(Vec<ServerFrame>),
    Cut,
    Close(u16),
}

fn answer(state: &mut State, ClientFrame { id: re, request }: ClientFrame) -> Answers {
    let head = state.log.len() as u64;
    Answers::Frames(match request {
        Request::Login { .. } => vec![hello(re)],
        Request::Resume { have } => {
            let held = have.iter().find(|p| p.conversation == conversation()).map_or(head, |p| p.seq);
            state.resumes.push(have);
            let resumption = Resumption { conversation: conversation(), live_after: held, head, gone: false };
            let missed = state.log[held as usize..].iter().cloned().map(|event| ServerFrame::Event { event });
            std::iter::once(ServerFrame::Resumed { re, conversations: vec![resumption] }).chain(missed).collect()
        }
        Request::Send { client_msg_id, body, .. } => {
            state.sends.push(client_msg_id);
            let content = EventContent::message(user(), client_msg_id, body);
            return send(state, re, client_msg_id, content);
        }
        Request::History { after, .. } => {
            let events = state.log[after as usize..].iter().take(3).cloned().collect::<Vec<_>>();
            let more = after as usize + events.len() < state.log.len();
            vec![ServerFrame::History {
                re,
                conversation: conversation(),
                events,
                head,
                more,
                oldest_seq: 1,
                read: Default::default(),
                as_of_seq: head,
            }]
        }
        Request::Ping => vec![ServerFrame::Pong { re }],
        other => panic!("the double does not know {other:?}"),
    })
}

fn send(state: &mut State, re: u64, id: ClientMsgId, content: EventContent) -> Answers {
    let fate = state.fates.pop_front().unwrap_or(Fate::Ack);
    match fate {
        Fate::Cut => return Answers::Cut,
        Fate::Close(code) => return Answers::Close(code),
        Fate::Refuse(code) => {
            return Answers::Frames(vec![ServerFrame::Error { re: Some(re), error: WireError::new(code, "", "t") }]);
        }
        Fate::Ack | Fate::CommitAndCut => {}
    }
    let (seq, duplicate) = match state.ids.get(&id) {
        Some(seq) => (*seq, true),
        None => (append(state, id, content), false),
    };
    if matches!(fate, Fate::CommitAndCut) {
        return Answers::Cut;
    }
    let mut frames = vec![ServerFrame::Ack { re, conversation: conversation(), seq, epoch: 1, duplicate }];
    if !duplicate && !state.withheld.contains(&seq) {
        frames.push(ServerFrame::Event { event: state.log[seq as usize - 1].clone() });
    }
    Answers::Frames(frames)
}

pub(crate) fn append(state: &mut State, id: ClientMsgId, content: EventContent) -> u64 {
    let seq = state.log.len() as u64 + 1;
    state.ids.insert(id, seq);
    state.log.push(WireEvent { conversation: conversation(), seq, time_ms: 0, content });
    seq
}

pub(crate) fn user() -> UserId {
    UserId::new("ann").unwrap()
}

fn hello(re: u64) -> ServerFrame {
    ServerFrame::Hello {
        re,
        user: user(),
        app: AppId::new("main").unwrap(),
        session: "s".to_owned(),
        cluster: "c".to_owned(),
        node: 1,
        epoch: 1,
        time_ms: 0,
        expires_ms: None,
        limits: Limits::default(),
    }
}
