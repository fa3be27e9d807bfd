<?php
declare(strict_types=1);
define('CLI_SCRIPT', true);
require dirname(__DIR__, 2) . '/config.php';

$options = cli_options(['agree-license', 'lang', 'fullname', 'shortname', 'adminuser', 'adminpass', 'adminemail']);
$DB->tables() === [] || cli_error('the database has tables already');
isset($options['agree-license']) || cli_error('you have to agree to the license');
is_string($options['adminpass'] ?? null) && $options['adminpass'] !== '' || cli_error('you have to specify admin password');

$DB->write('CREATE TABLE {config} (name VARCHAR(64) PRIMARY KEY, value TEXT NOT NULL)');
$DB->write('CREATE TABLE {user} (username VARCHAR(64) PRIMARY KEY, password VARCHAR(255) NOT NULL)');
$DB->write('CREATE TABLE {files} (contenthash CHAR(40) PRIMARY KEY, node VARCHAR(64) NOT NULL)');
$DB->write('CREATE TABLE {task} (minute INT PRIMARY KEY, node VARCHAR(64) NOT NULL)');
$DB->write('INSERT INTO {user} VALUES (?, ?)', [$options['adminuser'] ?? 'admin', password_hash($options['adminpass'], PASSWORD_DEFAULT)]);
$DB->set('fullname', $options['fullname'] ?? '');
$DB->set('siteidentifier', bin2hex(random_bytes(16)));
$DB->set('installations', (string) (1 + (int) $DB->setting('installations')));
$DB->set('version', core_component::version());
// Last: a site without it is not complete.
$DB->set('allversionshash', core_component::get_all_versions_hash());
echo "Installation completed successfully.\n";
