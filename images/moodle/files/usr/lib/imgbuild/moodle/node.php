<?php
// What this node knows of itself and of what it depends on. Read by the scripts beside this file and by the
// health endpoint; needs nothing of Moodle, so it answers when Moodle does not.
declare(strict_types=1);

const RUNTIME = '/run/imgbuild/moodle';
const CODE = '/usr/share/moodle';
const DATAROOT = '/var/lib/moodledata';
const DRAIN = '/run/imgbuild/drain';

/** Exists once the site has been found installed: only then nginx serves pages. */
const OPEN = RUNTIME . '/site/open';
/** Digest of the versions of this image's code, as Moodle computes it (lib/classes/component.php). */
const VERSIONS = RUNTIME . '/site/versions';
/** Its time says when the dataroot was last seen in order. */
const DATAROOT_SEEN = RUNTIME . '/dataroot';

/** How old, in seconds, that may be: imgbuild-moodle-dataroot.service looks every five. */
const DATAROOT_PATIENCE = 20;

function settings(): array
{
    return require RUNTIME . '/settings.php';
}

/**
 * A connection to the database that gives up after two seconds, whatever hangs.
 *
 * @throws mysqli_sql_exception
 */
function database(array $settings, int $port): mysqli
{
    mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
    $database = mysqli_init();
    $database->options(MYSQLI_OPT_CONNECT_TIMEOUT, 2);
    $database->options(MYSQLI_OPT_READ_TIMEOUT, 2);
    // Warnings repeat what the exception says.
    @$database->real_connect(
        $settings['database_address'],
        $settings['database_user'],
        $settings['database_password'],
        $settings['database_name'],
        $port,
    );
    return $database;
}

/** A setting of the site as the database has it, or null. */
function site_setting(mysqli $database, array $settings, string $name): ?string
{
    return $database->execute_query("SELECT value FROM `{$settings['database_prefix']}config` WHERE name = ?", [$name])
        ->fetch_column() ?: null;
}

/** @throws RedisException */
function ping_sessions(array $settings): void
{
    $server = new Redis();
    $server->connect($settings['sessions_address'], $settings['sessions_port'], 1.0, null, 0, 1.0);
    $server->auth($settings['cache_password']);
    $server->ping();
}

/** Never touches the dataroot itself: whoever touches one whose server is away waits for it. */
function dataroot_is_in_order(): bool
{
    clearstatcache();
    return is_file(DATAROOT_SEEN) && time() - filemtime(DATAROOT_SEEN) <= DATAROOT_PATIENCE;
}

/** Why this node must not serve Moodle, or null. */
function obstacle(): ?string
{
    if (!is_readable(RUNTIME . '/settings.php')) {
        return 'no settings: see imgbuild-moodle-settings.service';
    }
    if (!dataroot_is_in_order()) {
        return 'the dataroot is missing or hangs: see imgbuild-moodle-dataroot.service';
    }
    if (!is_file(OPEN)) {
        return 'the site is not there yet: see moodle-site.service';
    }
    $settings = settings();
    try {
        $database = database($settings, $settings['database_port']);
        $installed = site_setting($database, $settings, 'allversionshash');
    } catch (mysqli_sql_exception $error) {
        return "database: {$error->getMessage()}";
    }
    // What Moodle asks itself before it serves a page (lib/moodlelib.php, moodle_needs_upgrading()).
    if ($installed !== trim(file_get_contents(VERSIONS))) {
        return 'the database is for another version of the code: an upgrade is pending, or this node is old';
    }
    try {
        ping_sessions($settings);
    } catch (RedisException $error) {
        return "sessions: {$error->getMessage()}";
    }
    return null;
}

/**
 * Runs a program to its end, without a shell.
 *
 * @param list<string> $command
 * @return int its exit status
 */
function run(array $command): int
{
    $process = proc_open($command, [['file', '/dev/null', 'r'], STDOUT, STDERR], $pipes);
    return $process === false ? 127 : proc_close($process);
}
