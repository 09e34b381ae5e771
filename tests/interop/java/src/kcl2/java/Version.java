import software.amazon.kinesis.coordinator.CoordinatorConfig;
import software.amazon.kinesis.leases.LeaseManagementConfig;

/** What is special about 2.7.2: nothing. */
final class Version {
    private Version() {}

    static void configure(CoordinatorConfig coordinator, LeaseManagementConfig leases) {}
}
