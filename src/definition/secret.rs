//! Text that is a secret, or looks like nothing else.

/// A secret in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SecretText<'a> {
    /// What kind of secret it is.
    pub what: &'static str,
    /// The part of the text that gives it away.
    pub text: &'a str,
    /// Whether it is one by its form, and does not only look like one.
    pub is_certain: bool,
}

/// The secret that a value of the parameter or field `name` holds, if it holds one.
pub(super) fn secret_in<'a>(name: &str, text: &'a str) -> Option<SecretText<'a>> {
    let certain = |what, text| SecretText { what, text, is_certain: true };
    let likely = |what, text| SecretText { what, text, is_certain: false };
    known_form(text)
        .map(|what| certain(what, text))
        .or_else(|| password_in_url(text).map(|password| certain("a password", password)))
        .or_else(|| DEFAULT_PASSWORDS.contains(&text).then_some(likely("a default password", text)))
        .or_else(|| login(text).map(|password| likely("a password", password)))
        .or_else(|| (!is_public(name)).then(|| random_word(text)).flatten())
}

/// Whether what is called `name` is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "password",
        "passwd",
        "passphrase",
        "pass",
        "secret",
        "token",
        "key",
        "salt",
        "credential",
    ];
    words(name).any(|word| WORDS.contains(&word)) && !is_public(name)
        || ["password", "passphrase", "secret", "token"].iter().any(|word| name.contains(word))
}

/// The words of a name: `db`, `pass`.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(['_', '-'])
}

/// Whether a name says that its value may be seen, however random it is.
fn is_public(name: &str) -> bool {
    const WORDS: [&str; 11] = [
        "public",
        "path",
        "file",
        "name",
        "fingerprint",
        "digest",
        "sha256",
        "checksum",
        "commit",
        "user",
        "url",
    ];
    words(name).any(|word| WORDS.contains(&word))
}

/// Passwords that stand in installation guides and at the top of every list of leaked ones, as far
/// as they are nothing else: `moodle` and `root` are names, too.
const DEFAULT_PASSWORDS: [&str; 18] = [
    "password",
    "passw0rd",
    "Password1",
    "password123",
    "changeme",
    "change-me",
    "changeit",
    "letmein",
    "secret",
    "hunter2",
    "admin123",
    "root123",
    "toor",
    "qwerty",
    "123456",
    "12345678",
    "123456789",
    "s3cr3t",
];

/// A private key (RFC 7468, section 2, and the like), or the hash of a password.
fn known_form(text: &str) -> Option<&'static str> {
    // The hashing methods of crypt(5), and those of argon2, Apache and LDAP.
    const HASHES: [&str; 13] = [
        "$y$",
        "$gy$",
        "$7$",
        "$2a$",
        "$2b$",
        "$2y$",
        "$6$",
        "$5$",
        "$1$",
        "$argon2",
        "$apr1$",
        "{SSHA}",
        // PostgreSQL's form of RFC 5803.
        "SCRAM-SHA-256$",
    ];
    if text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // mysql_native_password: PASSWORD() of MariaDB. And PostgreSQL's older form.
    let mysql = text.strip_prefix('*').is_some_and(|rest| rest.len() == 40 && is_hex(rest));
    let postgres = text.strip_prefix("md5").is_some_and(|rest| rest.len() == 32 && is_hex(rest));
    (mysql || postgres || HASHES.iter().any(|prefix| text.starts_with(prefix)))
        .then_some("a password hash")
}

/// The password in a URL: `mysql://moodle:PASSWORD@10.0.0.1/moodle`.
fn password_in_url(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, password) = authority.rsplit_once('@')?.0.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

/// The password in `admin:PASSWORD`, as statistics pages take it.
fn login(text: &str) -> Option<&str> {
    let (user, password) = text.split_once(':')?;
    let is_login = ["admin", "root", "administrator"].contains(&user.to_ascii_lowercase().as_str());
    (is_login && !password.is_empty() && !password.contains(char::is_whitespace))
        .then_some(password)
}

/// A stretch of letters and digits that nobody would write by hand: 24 or more, of which no eighth
/// part is digits by chance, and spread over the alphabet.
fn random_word(text: &str) -> Option<SecretText<'_>> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '+';
    let looks_random = |word: &&str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        word.len() >= 24 && digits * 8 >= word.len() && digits < word.len() && entropy(word) >= 3.0
    };
    let text = text.split(|letter| !is_part(letter)).find(looks_random)?;
    Some(SecretText { what: "what looks like a key", text, is_certain: false })
}

/// Shannon's entropy of the bytes of `text`, in bits a byte: 32 random hexadecimal digits have about
/// 3.6, words 3 at most for their length.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = text.len() as f64;
    counts
        .into_iter()
        .filter(|count| *count > 0)
        .map(|count| f64::from(count) / length)
        .map(|share| -share * share.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_other_text() {
        for (name, text, what) in [
            ("motd", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", Some("a private key")),
            ("x", "$6$salt$hash", Some("a password hash")),
            ("x", "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", Some("a password hash")),
            ("x", "md5b7a875fc1ea228b9061041b7cec4bd3c", Some("a password hash")),
            ("x", "SCRAM-SHA-256$4096:c2FsdA==$a:b", Some("a password hash")),
            ("database", "mysql://moodle:moodle@10.0.0.1/moodle", Some("a password")),
            ("stats", "admin:123", Some("a password")),
            ("motto", "changeme", Some("a default password")),
            ("x", "8cd8ef52e8e101574e400365b55e11a6", Some("what looks like a key")),
            ("x", "9aZ3kLm02QxYt7Rb5Wv8Nc1P", Some("what looks like a key")),
            ("options", "a=b;salt=8cd8ef52e8e101574e400365b55e11a6", Some("what looks like a key")),
            ("ca_fingerprint", "8cd8ef52e8e101574e400365b55e11a6", None),
            ("database_user", "moodle", None),
            ("url", "https://moodle.campus.example:8443/course/view.php?id=42", None),
            ("url", "redis://10.0.0.1:6379", None),
            ("server", "admin.campus.example:443", None),
            ("x", "2.debian.pool.ntp.org", None),
            ("x", "/usr/share/imgbuild/gems/redis-4.8.1.gem", None),
            ("x", "socket.ssl_compression=No;gcache.size=1024M;pc.recovery=yes", None),
            ("x", "aaaaaaaaaaaaaaaa1111111111111111", None),
            ("x", "10.20.30.%", None),
            ("x", "", None),
        ] {
            assert_eq!(secret_in(name, text).map(|found| found.what), what, "{name} = {text}");
        }
    }

    #[test]
    fn names_say_what_is_secret() {
        for (name, secret) in [
            ("admin_password", true),
            ("dbpass", false),
            ("db_pass", true),
            ("api_key", true),
            ("secret_key_base", true),
            ("public_key", false),
            ("key_path", false),
            ("monkey", false),
            ("keyring", false),
            ("max_connections", false),
        ] {
            assert_eq!(is_secret_name(name), secret, "{name}");
        }
    }
}
