<?php
declare(strict_types=1);
define('CLI_SCRIPT', true);
require dirname(__DIR__, 2) . '/config.php';

$options = cli_options(['is-pending', 'non-interactive']);
$installed = $DB->setting('version') ?? cli_error('no version in the database');
(float) core_component::version() >= (float) $installed || cli_error('the code is older than the database');
moodle_needs_upgrading($DB) || cli_error('No upgrade needed.', 0);
isset($options['is-pending']) && cli_error('An upgrade is pending.', 2);
isset($options['non-interactive']) || cli_error('nobody to ask');

$DB->set('version', core_component::version());
$DB->set('allversionshash', core_component::get_all_versions_hash());
echo "Command line upgrade completed successfully.\n";
