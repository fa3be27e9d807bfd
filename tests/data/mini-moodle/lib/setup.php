<?php
// Everything behind config.php.
declare(strict_types=1);

defined('CLI_SCRIPT') || define('CLI_SCRIPT', false);
$CFG->dirroot = dirname(__DIR__) . '/public';
$CFG->root = dirname(__DIR__);
umask(($CFG->directorypermissions & 0777) ^ 0777);

foreach (['database', 'component', 'cache', 'session'] as $part) {
    require_once "{$CFG->dirroot}/lib/$part.php";
}

if (!is_dir($CFG->dataroot) || !is_writable($CFG->dataroot)) {
    http_response_code(500);
    echo "dataroot cannot be written to\n";
    exit(1);
}
define('CLI_MAINTENANCE', is_file("{$CFG->dataroot}/climaintenance.html"));
if (CLI_MAINTENANCE && !CLI_SCRIPT) {
    http_response_code(503);
    readfile("{$CFG->dataroot}/climaintenance.html");
    exit;
}

$DB = new database($CFG);
if (!CLI_SCRIPT) {
    // Whatever Moodle would show, it would not be the page.
    if (moodle_needs_upgrading($DB)) {
        http_response_code(503);
        echo "upgrade pending\n";
        exit;
    }
    start_session($CFG);
}

/** The options of a command line, NAME => value (true without one). Anything that is not known ends the script. */
function cli_options(array $known): array
{
    $options = [];
    foreach (array_slice($_SERVER['argv'], 1) as $argument) {
        if (preg_match('/^--([a-z-]+)(?:=(.*))?$/s', $argument, $parts) !== 1 || !in_array($parts[1], $known, true)) {
            cli_error("unknown option $argument");
        }
        $options[$parts[1]] = $parts[2] ?? true;
    }
    return $options;
}

function cli_error(string $message, int $status = 1): never
{
    fwrite(STDERR, "$message\n");
    exit($status);
}
