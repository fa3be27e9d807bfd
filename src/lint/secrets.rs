//! What only one person or service may know: whoever has the image has it, and every guest has the same.

use super::{Group, Lint, Stance, Subject};

/// A parameter that sounds like a secret.
pub static SECRET_PARAMETER: Lint = Lint {
    name: "secret-parameter",
    group: Group::Secrets,
    subject: Subject::Definition,
    stance: Stance::Deny,
    reason: "a parameter or field is named like a secret, and the values of parameters end up in \
                 the image",
    remedy: "declare it in [secrets]: templates then see the path where it is at run time",
};

/// A value that is a secret by its form.
pub static SECRET_VALUE: Lint = Lint {
    name: "secret-value",
    group: Group::Secrets,
    subject: Subject::Value,
    stance: Stance::Forbid("values of this form are nothing but keys, passwords and their hashes"),
    reason: "a value is a private key, a password or the hash of one, and ends up in the image \
                 and in the repository",
    remedy: "take it out of the repository, renew it, and declare it in [secrets]",
};

/// A value that looks like a secret.
pub static LIKELY_SECRET: Lint = Lint {
    name: "likely-secret",
    group: Group::Secrets,
    subject: Subject::Value,
    stance: Stance::Deny,
    reason: "a value looks like a password or as random as only keys do, and ends up in the image \
                 and in the repository",
    remedy: "if it is one, take it out of the repository, renew it, and declare it in [secrets]; \
                 if not, allow it in [lints]",
};

/// A private key in whatever file.
pub static PRIVATE_KEY: Lint = Lint {
    name: "private-key",
    group: Group::Secrets,
    subject: Subject::Layer,
    stance: Stance::Deny,
    reason: "whoever has the image has the key, and every guest has the same",
    remedy: "declare it as a secret and let the service read it from there; a key that a package makes \
             while it is installed must be removed and made anew in the guest",
};

/// A password, or none, in an account file.
pub static PASSWORD: Lint = Lint {
    name: "password",
    group: Group::Secrets,
    subject: Subject::Layer,
    stance: Stance::Forbid(
        "whoever has the image could log in to every guest made from it, and there is always another way: an account without password",
    ),
    reason: "whoever has the image has the password's hash, and every guest has the same password; an \
             empty one lets anybody in (shadow(5))",
    remedy: "lock the account (`!` or `*`); give guests keys or passwords from outside",
};

/// A secret that a package made.
pub static MINTED_SECRET: Lint = Lint {
    name: "minted-secret",
    group: Group::Secrets,
    subject: Subject::Layer,
    stance: Stance::Forbid(
        "the files that are looked at hold nothing but secrets of their guest, and every guest can make its own",
    ),
    reason: "a package made this secret while it was installed, so every guest would have the same; \
                 a disk carries it even where a layer above replaces it",
    remedy: "keep the package's script from making one, and have it made anew at the first start",
};

/// A password that a package ships.
pub static DEFAULT_PASSWORD: Lint = Lint {
    name: "default-password",
    group: Group::Secrets,
    subject: Subject::Image,
    stance: Stance::Forbid("everybody knows the password"),
    reason: "everybody knows it: it is what the package ships",
    remedy: "replace it in the image, and set one when the guest starts",
};

/// The key of systemd's credentials.
pub static CREDENTIAL_SECRET: Lint = Lint {
    name: "credential-secret",
    group: Group::Secrets,
    subject: Subject::Layer,
    stance: Stance::Forbid("the file is a secret by what it is, not by how it looks"),
    reason: "credentials encrypted for one guest could be read by every other \
                 (systemd-creds(1), /var/lib/systemd/credential.secret)",
    remedy: "remove it; it is made when it is first needed",
};

/// The key of the package ssl-cert.
pub static SNAKEOIL_KEY: Lint = Lint {
    name: "snakeoil-key",
    group: Group::Secrets,
    subject: Subject::Layer,
    stance: Stance::Forbid("the file is a private key by what it is, not by how it looks"),
    reason: "the ssl-cert package makes this key while it is installed, so every guest would have \
                 the same",
    remedy: "remove the key and its certificate, and have the service use one from a secret",
};

pub(super) static ALL: &[&Lint] = &[
    &SECRET_PARAMETER,
    &SECRET_VALUE,
    &LIKELY_SECRET,
    &PRIVATE_KEY,
    &PASSWORD,
    &MINTED_SECRET,
    &DEFAULT_PASSWORD,
    &CREDENTIAL_SECRET,
    &SNAKEOIL_KEY,
];
