<?php
declare(strict_types=1);
define('CLI_SCRIPT', true);
require dirname(__DIR__, 2) . '/config.php';

$options = cli_options(['enable', 'disable']);
$page = "{$CFG->dataroot}/climaintenance.html";
if (isset($options['enable'])) {
    file_put_contents($page, "<h1>Under maintenance</h1>\n");
} elseif (isset($options['disable'])) {
    is_file($page) && unlink($page);
}
echo is_file($page) ? "enabled\n" : "disabled\n";
