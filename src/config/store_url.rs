//! Parses store URLs. No error message contains a password.

use std::borrow::Cow;
use std::path::PathBuf;
use std::str::FromStr;

use directories::BaseDirs;
use percent_encoding::percent_decode_str;
use url::Url;

use super::InvalidValue;

const MYSQL_PORT: u16 = 3306;

const MYSQL_FORM: &str = "mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE";

/// The location of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// An SQLite file, which only one process can use at a time.
    Sqlite(PathBuf),
    /// A MySQL database, which several replicas can share.
    MySql(MySqlUrl),
}

impl FromStr for StoreUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return sqlite_path(path.strip_prefix("//").unwrap_or(path)).map(Self::Sqlite);
        }
        if text.starts_with("mysql:") {
            return mysql_url(text).map(Self::MySql);
        }
        Err(format!("give sqlite:PATH or {MYSQL_FORM}").into())
    }
}

/// Expands a leading `~/`, since shells do not expand it in an argument that begins with `sqlite:`. Refuses `~/` alone
/// and every other path that begins with `~`.
fn sqlite_path(path: &str) -> Result<PathBuf, InvalidValue> {
    if path.is_empty() || path.starts_with(':') {
        return Err("sqlite: needs the path of a file, as in sqlite:/var/lib/smilingchat.db".into());
    }
    if let Some((path, _)) = path.split_once('?') {
        return Err(format!("an SQLite URL has no settings after a ?: give sqlite:{path}").into());
    }
    let Some(below) = path.strip_prefix('~') else { return Ok(path.into()) };
    match (BaseDirs::new(), below.strip_prefix('/')) {
        (Some(directories), Some(below)) if !below.is_empty() => Ok(directories.home_dir().join(below)),
        _ => Err(format!("{path} is not in this user's home directory: give its absolute path").into()),
    }
}

/// A MySQL database and the account to use. The `Debug` form is the URL with `…` in place of the password, and without
/// the TLS settings.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
#[debug("mysql://{user}{}@{host}:{port}/{database}", if password.is_some() { ":…" } else { "" })]
pub struct MySqlUrl {
    /// Name or address of the server.
    pub host: String,
    /// The port of the server.
    pub port: u16,
    /// The account.
    pub user: String,
    /// The password, if the URL contains one.
    pub password: Option<String>,
    /// The file with the password. This password overrides the one in the URL, and may change while the program runs.
    pub password_file: Option<PathBuf>,
    /// The database, which must exist; its tables are created on first use.
    pub database: String,
    /// The TLS mode.
    pub tls: TlsMode,
    /// The file with the certificates of the authorities to trust; `None` for the public authorities. Only with
    /// [`TlsMode::VerifyCa`] and [`TlsMode::VerifyIdentity`].
    pub tls_authority: Option<PathBuf>,
}

/// The TLS mode. No mode disables TLS: for the first login of an account, MySQL's default authentication needs TLS or
/// RSA, and `sqlx` is built without RSA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", ascii_case_insensitive, parse_err_ty = InvalidValue, parse_err_fn = no_tls_mode)]
pub enum TlsMode {
    /// TLS if the server offers it. The certificate is not verified.
    #[default]
    Preferred,
    /// TLS is required. The certificate is not verified.
    Required,
    /// TLS is required, and a trusted authority must have signed the certificate.
    VerifyCa,
    /// Like [`TlsMode::VerifyCa`], but the certificate must also name the host.
    VerifyIdentity,
}

/// No error repeats any part of the URL, since any part of a malformed URL may be the password.
fn mysql_url(text: &str) -> Result<MySqlUrl, InvalidValue> {
    let url = Url::parse(text).map_err(|error| format!("{error}; give {MYSQL_FORM}"))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(format!("no host; give {MYSQL_FORM}"))?;
    let user = decoded(url.username())?;
    if user.is_empty() {
        return Err(format!("no user; give {MYSQL_FORM}").into());
    }
    let database = decoded(url.path().trim_start_matches('/'))?;
    if database.is_empty() || database.contains('/') {
        return Err(format!("no database; give {MYSQL_FORM}").into());
    }
    let mut parsed = MySqlUrl {
        // The brackets around an IPv6 address belong to the URL, not to the address.
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: url.port().unwrap_or(MYSQL_PORT),
        user,
        password: url.password().map(decoded).transpose()?,
        password_file: None,
        database,
        tls: TlsMode::default(),
        tls_authority: None,
    };
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "ssl-mode" => parsed.tls = value.parse()?,
            "ssl-ca" => parsed.tls_authority = Some(PathBuf::from(value.as_ref())),
            _ => return Err("only ssl-mode and ssl-ca may follow the ?".into()),
        }
    }
    if parsed.tls_authority.is_some() && !matches!(parsed.tls, TlsMode::VerifyCa | TlsMode::VerifyIdentity) {
        return Err("ssl-ca needs ssl-mode=verify_ca or verify_identity: no other mode verifies a certificate".into());
    }
    Ok(parsed)
}

fn no_tls_mode(_: &str) -> InvalidValue {
    "ssl-mode must be preferred, required, verify_ca or verify_identity".into()
}

fn decoded(part: &str) -> Result<String, InvalidValue> {
    let text = percent_decode_str(part).decode_utf8();
    text.map(Cow::into_owned).map_err(|_| "a percent-encoded part is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mysql(text: &str) -> MySqlUrl {
        match text.parse() {
            Ok(StoreUrl::MySql(url)) => url,
            other => panic!("{text} was not read as a MySQL URL: {other:?}"),
        }
    }

    #[test]
    fn an_sqlite_url_names_a_file_and_unknown_schemes_are_refused() {
        assert_eq!("sqlite:chat.db".parse(), Ok(StoreUrl::Sqlite("chat.db".into())));
        assert_eq!("sqlite:///var/chat.db".parse(), Ok(StoreUrl::Sqlite("/var/chat.db".into())));
        for wrong in ["", "sqlite:", "sqlite::memory:", "postgres://x/y", "chat.db"] {
            assert!(wrong.parse::<StoreUrl>().is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn a_path_in_the_home_directory_is_expanded_and_unusable_paths_are_refused() {
        let home = BaseDirs::new().unwrap().home_dir().to_owned();
        for text in ["sqlite:~/a/x.db", "sqlite://~/a/x.db"] {
            assert_eq!(text.parse(), Ok(StoreUrl::Sqlite(home.join("a/x.db"))), "{text} was not expanded");
        }
        assert_eq!("sqlite:a/~x.db".parse(), Ok(StoreUrl::Sqlite("a/~x.db".into())));
        for (wrong, said) in [
            ("sqlite:x.db?mode=rwc", "give sqlite:x.db"),
            ("sqlite:~", "absolute path"),
            ("sqlite:~/", "absolute path"),
            ("sqlite:~anna/x.db", "absolute path"),
        ] {
            let error = wrong.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(said), "wrong message for {wrong}: {error}");
        }
    }

    #[test]
    fn a_mysql_url_has_a_user_a_host_and_a_database() {
        let url = mysql("mysql://anna:se%2Fc%40ret@db.example:3307/chat?ssl-mode=REQUIRED");
        assert_eq!((url.host.as_str(), url.port, url.database.as_str()), ("db.example", 3307, "chat"));
        assert_eq!((url.user.as_str(), url.password.as_deref()), ("anna", Some("se/c@ret")));
        assert_eq!(url.tls, TlsMode::Required);

        let url = mysql("mysql://anna@[::1]/chat?ssl-mode=verify_ca&ssl-ca=/etc/authority.pem");
        assert_eq!((url.host.as_str(), url.port, url.password), ("::1", 3306, None));
        assert_eq!((url.tls, url.tls_authority), (TlsMode::VerifyCa, Some("/etc/authority.pem".into())));
    }

    #[test]
    fn an_error_says_what_is_wrong_with_a_url_and_contains_no_secret() {
        for (wrong, said) in [
            ("mysql:chat", "no host"),
            ("mysql:///chat", "no host"),
            ("mysql://db/chat", "no user"),
            ("mysql://anna:secret@db", "no database"),
            ("mysql://anna:secret@db/", "no database"),
            ("mysql://anna:secret@db/a/b", "no database"),
            ("mysql://anna:secret@db:port/chat", "port"),
            ("mysql://anna:secret@db/chat?ssl-mode=disabled", "ssl-mode must be"),
            ("mysql://anna:secret@db/chat?ssl-ca=/a.pem", "ssl-ca needs"),
            ("mysql://anna:secret@db/chat?ssl-ca=/a.pem&ssl-mode=required", "ssl-ca needs"),
            ("mysql://anna:secret@db/chat?secret=1", "may follow"),
        ] {
            let error = wrong.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("secret"), "wrong message for {wrong}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let printed = format!("{:?}", StoreUrl::MySql(mysql("mysql://anna:secret@db/chat")));
        assert_eq!(printed, "MySql(mysql://anna:…@db:3306/chat)");
    }
}
