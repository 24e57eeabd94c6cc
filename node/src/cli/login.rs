//! Connects as a user, by password or by the app's word.

use campanile_client::{Client, ClientOptions, ConnectError, Events, Tls};
use chat::ids::DeviceId;
use chat::wire::Credentials;

use super::args::LoginArgs;
use super::{Code, Exit, Failure, read_file, read_secret};
use crate::auth::signer::TokenSigner;

pub(super) async fn connect(args: &LoginArgs) -> Result<(Client, Events), Failure> {
    let tls = Tls::from_ca_pem(&read_file(&args.ca)?).map_err(|error| {
        let message = format!("{} is of no use as a certificate authority", args.ca.display());
        Failure::new(Code::File, Exit::Configuration, message).because(&error)
    })?;
    let device = DeviceId::new("campanile-cli").expect("the literal is a device id");
    let mut options = ClientOptions::new(args.url.clone(), tls, credentials(args)?, device);
    options.device.platform = "cli".to_owned();
    Client::connect(options).await.map_err(|error| failure(&error))
}

fn credentials(args: &LoginArgs) -> Result<Credentials, Failure> {
    if let Some(file) = &args.password_file {
        let password = read_secret(file)?.as_str().to_owned();
        return Ok(Credentials::Password { app: args.app.clone(), user: args.user.clone(), password });
    }
    let Some(file) = &args.app_key else {
        return Err(Failure::new(Code::Argument, Exit::Usage, "name --password-file or --app-key"));
    };
    let key = read_secret(file)?;
    TokenSigner::new(args.app.clone(), &key).and_then(|signer| signer.credentials(&args.user)).map_err(|error| {
        let message = format!("{} does not sign tokens", file.display());
        Failure::new(Code::File, Exit::Configuration, message).because(&error)
    })
}

fn failure(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Refused(wire) => Failure {
            number: wire.code,
            exit: if wire.retryable { Exit::Unreachable } else { Exit::Refused },
            message: format!("login refused: {}", wire.message),
            details: Vec::new(),
            next: Some("check --app, --user and the password or key; campanile user add --help adds users".to_owned()),
        },
        ConnectError::NoUrl | ConnectError::Url { .. } => Failure::new(Code::Argument, Exit::Usage, error.to_string()),
        _ => Failure::new(Code::Connect, Exit::Unreachable, error.to_string())
            .next("is the node running, and --ca the one that signed its certificate? campanile cluster status --help"),
    }
}
