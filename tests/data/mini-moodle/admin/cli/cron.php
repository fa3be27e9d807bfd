<?php
declare(strict_types=1);
define('CLI_SCRIPT', true);
require dirname(__DIR__, 2) . '/config.php';

$options = cli_options(['keep-alive']);
!CLI_MAINTENANCE || cli_error('CLI maintenance mode active, cron execution suspended.');
!moodle_needs_upgrading($DB) || cli_error('Moodle upgrade pending, cron execution suspended.');

// One task a minute, whichever node gets the row.
if ($DB->take('INSERT IGNORE INTO {task} VALUES (?, ?)', [intdiv(time(), 60), gethostname()])) {
    echo "this node has the task\n";
}
