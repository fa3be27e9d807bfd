<?php
// Who answers, and what it is connected to.
declare(strict_types=1);
require __DIR__ . '/../config.php';

$cache = core_cache\application();
header('Content-Type: application/json');
echo json_encode([
    'node' => gethostname(),
    'client' => $_SERVER['REMOTE_ADDR'],
    'wwwroot' => $CFG->wwwroot,
    'site' => $DB->setting('fullname'),
    'servers' => $DB->servers(),
    'cached' => $cache->incr('visits'),
    'tasks' => (int) $DB->read('SELECT COUNT(*) AS n FROM {task}')[0]['n'],
]), "\n";
