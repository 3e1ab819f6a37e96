//! Owns an OpenID Connect issuer as CI jobs and web applications know it: its
//! discovery document, its keys, the tokens that it signs, and how often it was
//! asked. On loopback without a lab, or as a site of the fake internet. What a
//! key does is `key`'s, what a token says is `token`'s, how people log in is
//! `login`'s. Never checks a token.

mod key;
mod login;
mod token;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub use self::key::KeyKind;
pub use self::token::Token;

use self::key::Key;
use self::login::{AUTHORIZE, Logins, TOKEN};
use crate::ca::Authority;
use crate::error::{During, LabError};
use crate::internet::{Ground, Internet};

/// Where relying parties begin (OpenID Connect Discovery 1.0 section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the keys are.
const JWKS: &str = "/jwks";
/// Longest form that is read.
const FORM: usize = 64 << 10;

/// An issuer of OpenID Connect tokens. It begins with one RSA key.
///
/// ```no_run
/// # use tidegate_lab::{KeyKind, LabError, OidcIssuer};
/// # fn example() -> Result<(), LabError> {
/// let issuer = OidcIssuer::loopback()?; // in a lab: `lab.oidc_issuer("issuer.test", plan::site(60))`
/// let mut claims = issuer.claims("acme/web", "ci.yml", "tidegate");
/// claims["run_id"] = "77".into();
/// let good = issuer.sign(&claims)?;
/// let bad = issuer.token().bad_signature().sign(&claims)?;
/// let second = issuer.rotate(KeyKind::Es256)?; // signs from now on; both are published
/// issuer.withdraw(&second); // not published any more
/// assert_eq!(issuer.jwks_requests(), 0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct OidcIssuer {
    shared: Arc<Shared>,
    authority: Option<Arc<Authority>>,
    /// The threads of an issuer without a lab.
    _threads: Option<Internet>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    /// Oldest first; the last one signs.
    keys: Mutex<Vec<Key>>,
    pages: Mutex<Pages>,
    logins: Mutex<Logins>,
}

/// What the issuer answers besides the truth, and how often it was asked.
#[derive(Debug, Default)]
struct Pages {
    down: bool,
    replaced: HashMap<String, String>,
    asked: HashMap<String, usize>,
}

impl OidcIssuer {
    /// Starts an issuer at `http://127.0.0.1:PORT`, without TLS.
    pub fn loopback() -> Result<Self, LabError> {
        let threads = Internet::here()?;
        let listener = threads.ground().tcp(loopback_port())?;
        let shared = Shared::new("http", listener.local_addr().during("find the issuer's port")?)?;
        threads
            .ground()
            .spawn(accept(listener, None, Arc::clone(&shared)));
        Ok(Self {
            shared,
            authority: None,
            _threads: Some(threads),
        })
    }

    /// Starts an issuer at `https://127.0.0.1:PORT`, with a certificate of an
    /// authority of its own: [`ca_pem`](Self::ca_pem).
    pub fn loopback_tls() -> Result<Self, LabError> {
        let threads = Internet::here()?;
        let authority = Arc::new(Authority::new("tidegate lab issuer's CA")?);
        let listener = threads.ground().tcp(loopback_port())?;
        let shared = Shared::new("https", listener.local_addr().during("find the issuer's port")?)?;
        let tls = authority.acceptor(&["127.0.0.1".to_owned()], &["h2", "http/1.1"])?;
        threads
            .ground()
            .spawn(accept(listener, Some(tls), Arc::clone(&shared)));
        Ok(Self {
            shared,
            authority: Some(authority),
            _threads: Some(threads),
        })
    }

    /// Starts an issuer at `https://NAME` on the internet's `addresses`.
    pub(crate) fn open(
        ground: &Ground,
        authority: &Arc<Authority>,
        name: &str,
        addresses: &[IpAddr],
    ) -> Result<Self, LabError> {
        let shared = Shared::new("https", name)?;
        for address in addresses {
            let tls = authority.acceptor(&[name.to_owned()], &["h2", "http/1.1"])?;
            let listener = ground.tcp(SocketAddr::new(*address, 443))?;
            ground.spawn(accept(listener, Some(tls), Arc::clone(&shared)));
        }
        Ok(Self {
            shared,
            authority: Some(Arc::clone(authority)),
            _threads: None,
        })
    }

    /// The issuer's name: what `iss` says, without a final slash.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The certificate of the authority that signed its own; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_deref().map(Authority::pem)
    }

    /// What GitHub's issuer says of a job of workflow file `workflow`
    /// (`ci.yml`) in `repo` (`acme/web`): every claim that it has, valid from
    /// now for five minutes, with a `jti` that is new every time.
    pub fn claims(&self, repo: &str, workflow: &str, audience: &str) -> Value {
        token::claims(self.url(), repo, workflow, audience)
    }

    /// A good token with these claims, signed by the newest key.
    pub fn sign(&self, claims: &Value) -> Result<String, LabError> {
        self.token().sign(claims)
    }

    /// A token with a header or a signature of the caller's choice.
    pub fn token(&self) -> Token<'_> {
        Token::new(&self.shared.keys)
    }

    /// Lets somebody log in at its page, by a link of this name, of whom ID
    /// tokens say these claims beside their own (`email`, `groups`, …).
    pub fn admit(&self, name: &str, claims: Value) {
        self.shared.logins.lock().admit(name, claims);
    }

    /// Makes and publishes another key, which signs from now on, and returns
    /// its `kid`. The others stay published.
    pub fn rotate(&self, kind: KeyKind) -> Result<String, LabError> {
        let mut keys = self.shared.keys.lock();
        let kid = format!("key-{}", keys.len() + 1);
        keys.push(Key::generate(kind, kid.clone())?);
        Ok(kid)
    }

    /// Takes a key out of `/jwks`. It can still sign: [`Token::key`].
    pub fn withdraw(&self, kid: &str) {
        let mut keys = self.shared.keys.lock();
        for key in keys.iter_mut().filter(|key| key.kid == kid) {
            key.published = false;
        }
    }

    /// An issuer that is down answers everything with 503.
    pub fn set_down(&self, down: bool) {
        self.shared.pages.lock().down = down;
    }

    /// Answers `/jwks` or the discovery document with this text from now on,
    /// whatever the truth is; `None` makes it honest again.
    pub fn replace(&self, path: &str, text: Option<&str>) {
        let mut pages = self.shared.pages.lock();
        match text {
            Some(text) => drop(pages.replaced.insert(path.to_owned(), text.to_owned())),
            None => drop(pages.replaced.remove(path)),
        }
    }

    /// How often the discovery document was asked for so far.
    pub fn discovery_requests(&self) -> usize {
        self.shared.asked(DISCOVERY)
    }

    /// How often the keys were asked for so far.
    pub fn jwks_requests(&self) -> usize {
        self.shared.asked(JWKS)
    }
}

fn loopback_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

impl Shared {
    fn new(scheme: &str, authority: impl std::fmt::Display) -> Result<Arc<Self>, LabError> {
        Ok(Arc::new(Self {
            url: format!("{scheme}://{authority}"),
            keys: Mutex::new(vec![Key::generate(KeyKind::Rs256, "key-1".to_owned())?]),
            pages: Mutex::default(),
            logins: Mutex::default(),
        }))
    }

    fn asked(&self, path: &str) -> usize {
        self.pages.lock().asked.get(path).copied().unwrap_or_default()
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            AUTHORIZE | TOKEN if self.pages.lock().down => {
                respond(StatusCode::SERVICE_UNAVAILABLE, String::new())
            }
            AUTHORIZE => {
                let query = request.uri().query().unwrap_or_default();
                let (status, page) = self.logins.lock().page(query);
                let html = header::HeaderValue::from_static("text/html; charset=utf-8");
                let mut response = respond(status, page);
                response.headers_mut().insert(header::CONTENT_TYPE, html);
                response
            }
            TOKEN => match Limited::new(request.into_body(), FORM).collect().await {
                Ok(form) => self.exchange(&String::from_utf8_lossy(&form.to_bytes())),
                Err(_) => respond(StatusCode::BAD_REQUEST, String::new()),
            },
            _ => self.answer(&request),
        }
    }

    /// Answers with an ID token for a code, or with why not.
    fn exchange(&self, form: &str) -> Response<Full<Bytes>> {
        let taken = self.logins.lock().take(&self.url, form);
        match taken.map(|claims| Token::new(&self.keys).sign(&claims)) {
            Ok(Ok(token)) => {
                let answer = json!({"id_token": token, "access_token": "none", "token_type": "Bearer"});
                respond(StatusCode::OK, answer.to_string())
            }
            Ok(Err(error)) => respond(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            Err(refusal) => respond(StatusCode::BAD_REQUEST, refusal.to_string()),
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let Some(truth) = self.page(path) else {
            return respond(StatusCode::NOT_FOUND, String::new());
        };
        let mut pages = self.pages.lock();
        *pages.asked.entry(path.to_owned()).or_default() += 1;
        if pages.down {
            return respond(StatusCode::SERVICE_UNAVAILABLE, String::new());
        }
        let text = pages.replaced.get(path).cloned();
        respond(StatusCode::OK, text.unwrap_or_else(|| truth.to_string()))
    }

    fn page(&self, path: &str) -> Option<Value> {
        match path {
            DISCOVERY => Some(json!({
                "issuer": self.url,
                "jwks_uri": format!("{}{JWKS}", self.url),
                "authorization_endpoint": format!("{}{AUTHORIZE}", self.url),
                "token_endpoint": format!("{}{TOKEN}", self.url),
                "code_challenge_methods_supported": ["S256"],
                "subject_types_supported": ["public", "pairwise"],
                "response_types_supported": ["code", "id_token"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                "scopes_supported": ["openid"],
            })),
            JWKS => {
                let keys = self.keys.lock();
                let published = keys.iter().filter(|key| key.published);
                Some(json!({"keys": published.map(Key::jwk).collect::<Vec<_>>()}))
            }
            _ => None,
        }
    }
}

fn respond(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            match tls {
                None => converse(shared, stream).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(shared, stream).await;
                    }
                }
            }
        });
    }
}

async fn converse(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.serve(request).await) }
    });
    let http = auto::Builder::new(TokioExecutor::new());
    let _visitor_gone = http.serve_connection(TokioIo::new(stream), service).await;
}
