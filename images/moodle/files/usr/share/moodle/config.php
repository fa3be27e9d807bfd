<?php
// Moodle's configuration, the same on every web node. What a site decides and the secrets come from
// settings.php, which imgbuild-moodle-settings.service writes at every start: the image has no secret.
// Every key: config-dist.php of Moodle, or the file named beside it (below public/).

unset($CFG);
global $CFG;
$CFG = new stdClass();

if (!is_readable('/run/imgbuild/moodle/settings.php')) {
    http_response_code(503);
    echo "This node has no settings: see the journal of imgbuild-moodle-settings.service\n";
    exit(1);
}
$settings = require '/run/imgbuild/moodle/settings.php';

// One port leads to the one node that is written to, the other to those that only read. Moodle itself
// decides which it may use: it knows of locks, transactions, temporary tables and fresh writes.
$CFG->dbtype = 'mariadb';
$CFG->dblibrary = 'native';
$CFG->dbhost = $settings['database_address'];
$CFG->dbname = $settings['database_name'];
$CFG->dbuser = $settings['database_user'];
$CFG->dbpass = $settings['database_password'];
$CFG->prefix = $settings['database_prefix'];
$CFG->dboptions = [
    'dbpersist' => false,
    'dbport' => $settings['database_port'],
    'dbcollation' => 'utf8mb4_unicode_ci',
    'connecttimeout' => 5,
    // What a proxy says of itself in the handshake is not what the database is.
    'versionfromdb' => true,
];
// Changing the tables takes minutes, and an installation or upgrade does not survive that a reading node goes
// away meanwhile (lib/dml/mysqli_native_moodle_database.php, fetch_columns(), takes that for a missing table).
if (!preg_match('~/admin/cli/(install_database|upgrade)\.php$~', $_SERVER['argv'][0] ?? '')) {
    $CFG->dboptions['readonly'] = [
        'instance' => [['dbhost' => $settings['database_address'], 'dbport' => $settings['database_read_port']]],
        'connecttimeout' => 2,
        'latency' => $settings['read_latency_milliseconds'] / 1000,
    ];
}
// The default, GET_LOCK(), locks on one node of the cluster only.
$CFG->lock_factory = '\core\lock\db_record_lock_factory';

$CFG->wwwroot = $settings['wwwroot'];
$CFG->sslproxy = str_starts_with($settings['wwwroot'], 'https://');
// Trust nothing but REMOTE_ADDR (lib/moodlelib.php, getremoteaddr()): nginx has already put the client
// there, and only on the word of the load balancers.
$CFG->getremoteaddrconf = 3;
$CFG->routerconfigured = true;
$CFG->admin = 'admin';

// Shared by all nodes: uploaded files, backups, language packs, keys. Local: what is cheap to make again.
$CFG->dataroot = '/var/lib/moodledata';
$CFG->directorypermissions = 0770;
$CFG->localcachedir = '/var/cache/moodle';
$CFG->localrequestdir = '/var/cache/moodle/request';
// Which store each cache is in, made at every start by moodle-site.service: it has a password in it.
$CFG->altcacheconfigpath = '/run/imgbuild/moodle/muc';

$CFG->session_handler_class = '\core\session\redis';
$CFG->session_redis_host = $settings['sessions_address'];
$CFG->session_redis_port = $settings['sessions_port'];
$CFG->session_redis_prefix = $settings['database_prefix'] . 'session_';
$CFG->session_redis_acquire_lock_timeout = 60;
$CFG->session_redis_lock_expire = 3600;
$CFG->session_redis_auth = $settings['cache_password'];

// nginx hands out files; PHP only says which.
$CFG->xsendfile = 'X-Accel-Redirect';
$CFG->xsendfilealiases = ['/dataroot/' => $CFG->dataroot, '/localcache/' => $CFG->localcachedir];

$CFG->pathtophp = '/usr/bin/php';
$CFG->pathtogs = '/usr/bin/gs';
$CFG->pathtopdftoppm = '/usr/bin/pdftoppm'; // mod/assign/feedback/editpdf/classes/pdf.php
$CFG->pathtodot = '/usr/bin/dot';
$CFG->aspellpath = '/usr/bin/aspell';
$CFG->preventexecpath = true;

// The code changes with the image and in no other way.
$CFG->disableupdateautodeploy = true;
$CFG->disableupdatenotifications = true;
$CFG->uninstallclionly = true;
$CFG->cronclionly = true; // admin/cron.php
// New at every start and known to nobody: a pending upgrade cannot be started from a browser.
$CFG->upgradekey = $settings['upgrade_key'];

foreach (['smtp_host' => 'smtphosts', 'smtp_user' => 'smtpuser', 'smtp_password' => 'smtppass',
          'smtp_security' => 'smtpsecure', 'noreply_address' => 'noreplyaddress'] as $setting => $key) {
    if ($settings[$setting] !== '') {
        $CFG->$key = $settings[$setting]; // lib/moodlelib.php, get_mailer()
    }
}
if ($settings['bigbluebutton_url'] !== '') {
    $CFG->bigbluebuttonbn = [ // mod/bigbluebuttonbn/classes/local/config.php
        'server_url' => $settings['bigbluebutton_url'],
        'shared_secret' => $settings['bigbluebutton_secret'],
        'checksum_algorithm' => 'SHA256',
    ];
}
unset($settings, $setting, $key);

require_once('/usr/share/moodle/lib/setup.php');
