//! The chat page that every node serves beside its WebSocket endpoint, and the list of nodes it may go to.
//!
//! One HTML file, one style sheet, two scripts: `core.js` decides and knows no browser, `app.js` is the shell.
//! Nothing is loaded from elsewhere and the Content-Security-Policy keeps it so.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpResponse, guard, web};
use chat::ids::NodeId;
use serde::Serialize;

use crate::config::NodeConfig;

const HTML: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
const APP: &str = include_str!("app.js");
const CORE: &str = include_str!("core.js");

/// Where clients can connect: `GET /v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeHint {
    pub node: NodeId,
    /// `wss://host:port/v1/connect`, or `ws://` where clients are served without TLS.
    pub url: String,
}

#[derive(Serialize)]
struct Nodes<'a> {
    nodes: &'a [NodeHint],
}

/// What the page's routes need. Made once per node, shared by its workers.
#[derive(Debug, Clone)]
pub struct Page {
    nodes: Vec<NodeHint>,
    policy: String,
}

impl Page {
    pub fn new(config: &NodeConfig) -> Self {
        let scheme = config.client_scheme();
        let hint = |member: crate::config::MemberSection| {
            let client = member.client?;
            Some(NodeHint { node: member.id, url: format!("{scheme}://{client}{}", chat::wire::PATH) })
        };
        let nodes: Vec<NodeHint> = config.members().into_iter().filter_map(hint).collect();
        let policy = policy(&nodes);
        Self { nodes, policy }
    }

    /// Adds the page's routes to the client listener: `app.configure(page.routes())`.
    pub fn routes(&self) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
        let page = web::Data::new(self.clone());
        move |config| {
            config
                .app_data(page)
                .route("/", read().to(|page| asset(page, "text/html; charset=utf-8", HTML)))
                .route("/page/style.css", read().to(|page| asset(page, "text/css; charset=utf-8", STYLE)))
                .route("/page/app.js", read().to(|page| asset(page, "text/javascript; charset=utf-8", APP)))
                .route("/page/core.js", read().to(|page| asset(page, "text/javascript; charset=utf-8", CORE)))
                .route("/v1/nodes", read().to(nodes));
        }
    }

    /// Whether a browser's `Origin` is this cluster's chat page, served by whichever node.
    pub fn is_origin(&self, origin: &str) -> bool {
        // https goes with wss, http with ws.
        let own =
            |hint: &NodeHint| origin_of(hint).is_some_and(|own| own.strip_prefix("ws") == origin.strip_prefix("http"));
        origin.starts_with("http") && self.nodes.iter().any(own)
    }
}

fn read() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// `wss://host:port`.
fn origin_of(hint: &NodeHint) -> Option<&str> {
    hint.url.strip_suffix(chat::wire::PATH)
}

/// Scripts and styles from this node alone; connections to this cluster's nodes alone.
fn policy(nodes: &[NodeHint]) -> String {
    let others: String = nodes.iter().filter_map(origin_of).map(|origin| format!(" {origin}")).collect();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'{others}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

async fn asset(page: web::Data<Page>, content_type: &'static str, body: &'static str) -> HttpResponse {
    headers(&page, content_type).body(body)
}

async fn nodes(page: web::Data<Page>) -> HttpResponse {
    let body = serde_json::to_string(&Nodes { nodes: &page.nodes }).expect("ids and texts serialize");
    headers(&page, "application/json").body(body)
}

fn headers(page: &Page, content_type: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header((CONTENT_SECURITY_POLICY, page.policy.as_str()))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        // A node of another version serves another page.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((HeaderName::from_static("cross-origin-opener-policy"), "same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use actix_web::{App, test};

    use super::*;
    use crate::config::MemberSection;

    fn three_nodes() -> Page {
        let mut config = NodeConfig::default();
        config.cluster.members = (1..=3)
            .map(|id| MemberSection {
                id,
                peer: ([127, 0, 0, 1], 7402 + 10 * id as u16).into(),
                client: (id < 3).then(|| format!("127.0.0.1:{}", 7401 + 10 * id)),
            })
            .collect();
        Page::new(&config)
    }

    #[actix_web::test]
    async fn the_page_is_whole_and_may_load_nothing_from_elsewhere() {
        let app = test::init_service(App::new().configure(three_nodes().routes())).await;
        for (path, content_type) in [
            ("/", "text/html"),
            ("/page/style.css", "text/css"),
            ("/page/app.js", "text/javascript"),
            ("/page/core.js", "text/javascript"),
        ] {
            let response = test::call_service(&app, test::TestRequest::get().uri(path).to_request()).await;
            assert_eq!(response.status(), 200, "{path}");
            let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
            assert!(header("content-type").starts_with(content_type), "{path}");
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert!(header("content-security-policy").contains("default-src 'none'; script-src 'self';"));
            assert!(
                header("content-security-policy")
                    .contains("connect-src 'self' wss://127.0.0.1:7411 wss://127.0.0.1:7421;")
            );
        }
    }

    #[actix_web::test]
    async fn clients_learn_the_nodes_that_tell_where_they_are() {
        let app = test::init_service(App::new().configure(three_nodes().routes())).await;
        let request = test::TestRequest::get().uri("/v1/nodes").to_request();
        let body: serde_json::Value = test::call_and_read_body_json(&app, request).await;
        let expected = serde_json::json!({ "nodes": [
            { "node": 1, "url": "wss://127.0.0.1:7411/v1/connect" },
            { "node": 2, "url": "wss://127.0.0.1:7421/v1/connect" },
        ]});
        assert_eq!(body, expected);
    }

    #[::core::prelude::v1::test]
    fn the_page_of_any_node_may_connect_to_this_one_and_no_other_page_may() {
        let page = three_nodes();
        assert!(page.is_origin("https://127.0.0.1:7411") && page.is_origin("https://127.0.0.1:7421"));
        for other in
            ["https://127.0.0.1:7431", "http://127.0.0.1:7411", "https://evil.example", "wss://127.0.0.1:7411", ""]
        {
            assert!(!page.is_origin(other), "{other}");
        }
    }

    #[::core::prelude::v1::test]
    fn without_tls_the_page_comes_over_http() {
        let mut config = NodeConfig::default();
        config.client.tls = false;
        let page = Page::new(&config);
        assert_eq!(page.nodes[0].url, "ws://127.0.0.1:7411/v1/connect");
        assert!(page.is_origin("http://127.0.0.1:7411") && !page.is_origin("https://127.0.0.1:7411"));
    }

    #[::core::prelude::v1::test]
    fn no_asset_comes_from_elsewhere_and_no_text_becomes_markup() {
        for asset in [HTML, STYLE, APP, CORE] {
            assert!(!asset.contains("http://") && !asset.contains("https://"));
            for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!asset.contains(markup), "{markup}");
            }
        }
        assert!(!HTML.contains("onclick=") && !HTML.contains("style="), "the policy forbids both");
    }

    #[::core::prelude::v1::test]
    fn the_pages_core_keeps_its_promises() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/core.test.mjs");
        match Command::new("node").arg("--test").arg(&script).output() {
            Err(error) => println!("SKIPPED: the page's core was not tested, `node` does not run: {error}"),
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        }
    }
}
