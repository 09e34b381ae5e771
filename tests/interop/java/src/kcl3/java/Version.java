import software.amazon.kinesis.coordinator.CoordinatorConfig;
import software.amazon.kinesis.coordinator.CoordinatorConfig.ClientVersionConfig;
import software.amazon.kinesis.leases.LeaseManagementConfig;

/**
 * What is special about 3.5.1: in the first phase of its migration it shares a table as 2.x does, in the second it
 * gets ready to be led, and by default it is led.
 */
final class Version {
    private Version() {}

    static void configure(CoordinatorConfig coordinator, LeaseManagementConfig leases) {
        coordinator.clientVersionConfig(ClientVersionConfig.valueOf(System.getenv("CLIENT_VERSION")));
        leases.leaseAssignmentIntervalMillis(2_000L);
        leases.workerUtilizationAwareAssignmentConfig().varianceBalancingFrequency(1);
    }
}
